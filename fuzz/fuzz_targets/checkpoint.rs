//! The JSON files of a checkpoint of any bytes: listing, progress, configuration. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use world_models::checkpoint::contents::{Listing, progress};
use world_models::train::RunConfig;

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, text)) = bytes.split_first() else { return };
    match which % 3 {
        0 => {
            if let Ok(listing) = Listing::parse(text) {
                assert!(listing.files.iter().all(|(name, _)| !name.contains("..")));
            }
        }
        1 => {
            if let Ok(progress) = progress(text) {
                assert!(progress.skipped <= progress.update);
            }
        }
        _ => {
            let Ok(config) = serde_json::from_slice::<RunConfig>(text) else { return };
            if config.validate().is_ok() {
                let train = &config.train;
                let _ = config.model.parameters();
                let _ = config.model.training_bytes(train.batch_size as i64, train.context + train.horizon);
                assert!(train.learning_rate_at(train.updates - 1).is_finite());
            }
        }
    }
});
