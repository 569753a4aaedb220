//! The engine between real peers over loopback: the `h2` crate's and ones that send frame by
//! frame, with the clock in the test's hand.

mod age;
mod ahead;
mod attacks;
mod extended;
pub(super) mod frames;
mod httpwg;
mod interim;
mod peers;
mod silence;
mod slow;
pub(crate) mod support;
