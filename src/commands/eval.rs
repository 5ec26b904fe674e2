//! `mindseye eval`.
