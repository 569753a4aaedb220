//! Frames of the proxy itself, waiting for a place between the frames that pass.

/// Frames of the proxy itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The one being written, and how much of it is.
    pub(super) frame: Vec<u8>,
    pub(super) written: usize,
    pub(super) frame_closes: bool,
    pub(super) close: Option<Vec<u8>>,
    pub(super) ping: Option<Vec<u8>>,
}

impl Own {
    /// What is left of the frame being written.
    pub(super) fn pending(&self) -> Option<&[u8]> {
        self.frame.get(self.written..).filter(|rest| !rest.is_empty())
    }

    /// Whether a frame waits for a boundary.
    pub(super) fn waits(&self) -> bool {
        self.close.is_some() || self.ping.is_some()
    }

    /// Starts the next frame; a Close goes first, and a ping after it would be late.
    pub(super) fn load(&mut self) -> bool {
        let close = self.close.take();
        self.frame_closes = close.is_some();
        let next = close.or_else(|| self.ping.take());
        let loads = next.is_some();
        (self.frame, self.written) = (next.unwrap_or_default(), 0);
        loads
    }
}
