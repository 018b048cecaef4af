//! Reading pages, verified on first touch.
