//! A snapshot of a batch of envs from any bytes: put back and played on, or refused.
#![no_main]

use std::cell::RefCell;

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::vector::{BatchEnv, VectorSnapshot};
use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::batch;

thread_local!(static BATCH: RefCell<Box<dyn BatchEnv>> = RefCell::new(batch()));

fuzz_target!(|bytes: &[u8]| {
    let Ok(snapshot) = serde_json::from_slice::<VectorSnapshot>(bytes) else { return };
    BATCH.with_borrow_mut(|batch| {
        if batch.restore(&snapshot).is_err() {
            return;
        }
        assert_eq!(batch.snapshot(), snapshot);
        let mut out = StepBatch::for_spec(batch.spec(), 2);
        for _ in 0..3 {
            let _ = batch.step(&Buffer::I8(vec![1, -1, 0, 1]), &mut out);
        }
        let _ = batch.snapshot();
    });
});
