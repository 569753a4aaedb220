//! Relay buffers, one shelf per worker thread.
//!
//! A direction takes a buffer to read and gives it back when everything is on its way, so idle
//! connections hold none and busy ones neither allocate nor clear memory per read.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use gwproxy_core::net::relay::BUFFER_BYTES;

/// Free buffers kept per thread (2 MiB); more are given back to the allocator.
const FREE_MAX: usize = 32;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`BUFFER_BYTES`], back on the shelf when dropped.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(crate) fn take() -> Self {
        let free = FREE.with_borrow_mut(Vec::pop);
        Self(free.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // Without a shelf (the thread is ending) the buffer is simply freed.
        let _ = FREE.try_with(|free| {
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
        let first = Buffer::take();
        let address = first.as_ptr();
        drop(first);
        assert_eq!(Buffer::take().as_ptr(), address);
        drop((0..2 * FREE_MAX).map(|_| Buffer::take()).collect::<Vec<_>>());
        assert_eq!(FREE.with_borrow(Vec::len), FREE_MAX);
    }
}
