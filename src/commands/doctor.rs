//! `mindseye doctor`.
