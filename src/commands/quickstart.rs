//! `mindseye quickstart`.
