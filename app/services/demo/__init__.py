"""The demo: a dozen shops with known truth, taken through the real import and the real retrain."""
