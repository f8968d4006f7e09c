//! Committed vectors, which a second implementation reads too.
