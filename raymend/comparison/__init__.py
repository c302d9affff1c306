"""Compare methods on cases under one protocol: equal doses, equal tuning, stated windows, one report."""
