//! Relay buffers, two shelves per worker thread: for the largest, and for smaller ones.
//!
//! A direction takes a buffer to read and gives it back when everything is on its way, so idle
//! connections hold none and busy ones neither allocate nor clear memory per read.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

use gwproxy_core::net::relay::BUFFER_BYTES;

/// Free buffers kept on each shelf (2 MiB on the larger one); more are given back to the allocator.
const FREE_MAX: usize = 32;

type Shelf = RefCell<Vec<Box<[u8]>>>;

thread_local! {
    static FREE: Shelf = const { RefCell::new(Vec::new()) };
    static SMALL: Shelf = const { RefCell::new(Vec::new()) };
}

/// A buffer that goes back on its shelf when dropped.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    /// One of `bytes`, at most [`BUFFER_BYTES`].
    pub(crate) fn take(bytes: usize) -> Self {
        let free = shelf(bytes).with_borrow_mut(Vec::pop).filter(|free| free.len() == bytes);
        Self(free.unwrap_or_else(|| vec![0; bytes].into_boxed_slice()))
    }
}

fn shelf(bytes: usize) -> &'static LocalKey<Shelf> {
    if bytes < BUFFER_BYTES { &SMALL } else { &FREE }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // Without a shelf (the thread is ending) the buffer is simply freed.
        let _ = shelf(buffer.len()).try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < FREE_MAX {
                free.push(buffer);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_the_shelf_is_bounded() {
        for bytes in [BUFFER_BYTES, 4096] {
            let first = Buffer::take(bytes);
            let address = first.as_ptr();
            assert_eq!(first.len(), bytes);
            drop(first);
            assert_eq!(Buffer::take(bytes).as_ptr(), address);
            drop((0..2 * FREE_MAX).map(|_| Buffer::take(bytes)).collect::<Vec<_>>());
            assert_eq!(shelf(bytes).with_borrow(Vec::len), FREE_MAX);
        }
        assert_eq!(Buffer::take(5000).len(), 5000, "not another one's size");
    }
}
