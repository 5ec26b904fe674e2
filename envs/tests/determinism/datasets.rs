//! A dataset is a function of its source: neither repetition nor the number of threads changes a byte of it.

use envs::collect::Truth;
use simulators::rng::Seed;

use crate::subject::subjects;
use crate::{in_pool, scaled};

const SEED: Seed = Seed(3);

#[test]
fn recording_again_gives_the_same_bytes() {
    for subject in subjects() {
        let episodes = scaled(20, 200);
        let first = subject.collected(SEED, Truth::Full, episodes);
        for repetition in 1..scaled(5, 20) {
            let again = subject.collected(SEED, Truth::Full, episodes);
            assert_eq!(again.dataset.digest(), first.dataset.digest(), "{}, repetition {repetition}", subject.id());
            assert!(again.files() == first.files(), "{}, repetition {repetition}", subject.id());
        }
        let other = subject.collected(Seed(4), Truth::Full, episodes);
        assert_ne!(other.dataset.digest(), first.dataset.digest(), "{}: another seed", subject.id());
    }
}

#[test]
fn recording_with_any_number_of_threads_gives_the_same_bytes() {
    for subject in subjects() {
        let episodes = scaled(40, 400);
        let alone = in_pool(1, || subject.collected(SEED, Truth::Full, episodes));
        for threads in scaled(&[2, 3, 4, 8][..], &[2, 3, 4, 8, 16]) {
            let many = in_pool(*threads, || subject.collected(SEED, Truth::Full, episodes));
            assert_eq!(many.dataset.digest(), alone.dataset.digest(), "{}, {threads} threads", subject.id());
            assert!(many.files() == alone.files(), "{}, {threads} threads", subject.id());
        }
    }
}
