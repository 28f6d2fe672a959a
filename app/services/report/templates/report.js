"use strict";
// The page can be read without this script: it adds the search and the line that reads out one day of a chart.
(() => {
  const plain = (text) => text.toLocaleLowerCase().normalize("NFD").replace(/\p{M}/gu, "");

  const search = document.getElementById("search");
  const rows = [...document.querySelectorAll(".overview tbody tr")];
  search.addEventListener("input", () => {
    const wanted = plain(search.value.trim());
    let found = 0;
    for (const row of rows) {
      const shop = document.getElementById(row.dataset.for);
      const fits = plain(shop.dataset.name).includes(wanted);
      row.hidden = shop.hidden = !fits;
      found += fits;
    }
    document.getElementById("no-match").hidden = found > 0;
  });

  const readings = new WeakMap();
  const daysOf = (chart) => {
    if (!readings.has(chart)) readings.set(chart, JSON.parse(chart.dataset.days));
    return readings.get(chart);
  };
  const show = (chart, index) => {
    const days = daysOf(chart);
    const day = Math.min(Math.max(index, 0), days.length - 1);
    const cursor = chart.querySelector(".cursor");
    cursor.setAttribute("x", `${(100 * day) / days.length}%`);
    cursor.setAttribute("width", `${100 / days.length}%`);
    chart.closest("figure").querySelector(".readout").textContent = days[day];
    chart.dataset.day = day;
  };
  const point = (event) => {
    const chart = event.target.closest(".chart");
    if (!chart) return;
    const box = chart.getBoundingClientRect();
    show(chart, Math.floor(((event.clientX - box.left) / box.width) * daysOf(chart).length));
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const chart = event.target.closest(".chart");
    if (!step || !chart) return;
    event.preventDefault();
    const last = daysOf(chart).length - 1;
    show(chart, chart.dataset.day === undefined ? last : Number(chart.dataset.day) + step);
  });
})();
