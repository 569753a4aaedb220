//! Every input that is kept runs through its target, and so do some made of them: what a long run
//! found once is a test for ever, and the suite explores by itself.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};

use fuzz::mutate::{Rng, mutate};
use fuzz::{INPUT_BYTES_MAX, TARGETS, Target, corpus};

/// Inputs made for each target. They are always the same.
const MUTATIONS: usize = 10_000;
/// Bytes of all inputs kept.
const CORPUS_BYTES_MAX: usize = 1024 * 1024;

/// Runs an input; says which it was if the property does not hold.
fn run(target: &Target, input: &[u8], what: &str) {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if let Err(cause) = outcome {
        eprintln!("{}: {what}: {}", target.name, input.escape_ascii());
        panic::resume_unwind(cause);
    }
}

fn explore(name: &str) {
    let target = fuzz::target(name).unwrap();
    let kept = corpus::load(target).unwrap();
    for (file, input) in &kept {
        run(target, input, file);
    }
    let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
    let mut rng = Rng::new(12);
    for number in 0..MUTATIONS {
        let input = mutate(target, &inputs, &mut rng);
        run(target, &input, &format!("mutation {number}"));
    }
}

macro_rules! explored {
    ($($name:ident)*) => {
        const EXPLORED: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            explore(stringify!($name));
        })*
    };
}

explored! {
    chunked config destinations forwarded grpc_fields h1_agreement h1_request h1_response
    h2_connection header_policy hpack hpack_fields huffman limiter_key path proxy_protocol
    request_target units
    ws_frames ws_handshake
}

#[test]
fn r12_every_target_is_explored_and_has_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "a name twice");
    assert!(names.len() >= 14, "reliability R12 wants fourteen");
    assert_eq!(names, EXPLORED.iter().map(|name| (*name).to_owned()).collect());
    let dirs = fs::read_dir(corpus::root()).unwrap();
    let dirs = dirs.map(|dir| dir.unwrap().file_name().into_string().unwrap());
    assert_eq!(names, dirs.collect(), "fuzz/corpus has one directory for each target");
    let mut bytes = 0;
    for target in TARGETS {
        let inputs = corpus::load(target).unwrap();
        assert!(inputs.len() >= 3, "{} has a corpus of {}", target.name, inputs.len());
        for (file, input) in &inputs {
            assert!(input.len() <= INPUT_BYTES_MAX, "{}/{file} is too large", target.name);
            bytes += input.len();
        }
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes of corpus");
}
