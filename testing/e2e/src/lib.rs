//! End-to-end tests over real processes; everything is in `tests/it`.
