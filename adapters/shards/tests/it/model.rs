//! Random operations against a model.
