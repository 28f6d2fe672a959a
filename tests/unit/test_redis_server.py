"""The Redis server of the tests itself: what the chaos suite does to it does what it says."""

import pytest

from tests.servers.redis import running_redis


def test_what_one_test_leaves_the_next_does_not_see(redis_server, redis_url):
    with redis_server.client() as client:
        client.set("left", "over")

    redis_server.flush()

    with redis_server.client() as client:
        assert client.dbsize() == 0
    assert redis_url == redis_server.url


@pytest.mark.parametrize(("appendonly", "kept"), [("no", None), ("yes", b"1")])
def test_killed_and_started_again_it_keeps_what_its_settings_say(appendonly, kept):
    with running_redis(appendonly=appendonly, appendfsync="always") as server:
        address = server.url
        with server.client() as client:
            client.set("task", "1")

        server.kill()
        running_after_the_kill = server.is_running()
        server.start()

        with server.client() as client:
            assert client.get("task") == kept
        assert not running_after_the_kill
        assert server.url == address
