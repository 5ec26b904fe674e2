//! `mindseye bench`.
