//! The access log: workers fill a buffer, one thread writes. A slow disk costs lines, which are
//! counted and told of, and never a request.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes a worker gathers before it hands them to the writer.
const BATCH_BYTES: usize = 32 * 1024;
/// Batches waiting for the writer; with [`BATCH_BYTES`] this bounds the memory at 2 MiB.
const BATCHES_MAX: usize = 64;
/// How long a line may stay with a worker.
const FLUSH: Duration = Duration::from_millis(200);
/// Bytes of one line; what a client can make longer is cut by the writer of the line.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// The log, seen from the process. Its drop waits until what workers handed on is written; they
/// must be gone by then.
#[derive(Debug)]
pub struct AccessLog {
    sender: Option<SyncSender<Vec<u8>>>,
    dropped: Dropped,
    writer: Option<JoinHandle<()>>,
    rotation: Option<Rotation>,
}

/// Opens the log's file again, once its name is another file's: `logrotate` renames it first.
#[derive(Debug, Clone)]
pub struct Rotation(Arc<Successor>);

/// The file that the writer goes on with.
#[derive(Debug)]
struct Successor {
    path: PathBuf,
    /// Only the writer and whoever reopens meet here, so that no worker waits for the lock.
    file: Mutex<Option<File>>,
}

/// Lines that were lost, seen from anywhere.
#[derive(Debug, Clone, Default)]
pub struct Dropped(Arc<AtomicU64>);

/// A way to the log that can be sent to a worker.
#[derive(Debug, Clone)]
pub struct Handle {
    sender: Option<SyncSender<Vec<u8>>>,
    dropped: Dropped,
}

/// The log, seen from a worker.
#[derive(Debug)]
pub struct Lines {
    sender: Option<SyncSender<Vec<u8>>>,
    dropped: Dropped,
    /// The last batch was lost.
    is_losing: Cell<bool>,
    buffer: RefCell<Vec<u8>>,
}

impl AccessLog {
    /// Writes to `file`, appending, or to standard output.
    ///
    /// # Errors
    /// One sentence, when the file cannot be opened.
    pub fn open(file: Option<&Path>) -> Result<Self, String> {
        let out: Box<dyn Write + Send> = match file {
            None => Box::new(io::stdout()),
            Some(path) => Box::new(append_to(path).map_err(|error| {
                format!(
                    "cannot open the access log {}: {error}; choose a file this user may write \
                     with --access-log, or `--access-log off`",
                    path.display()
                )
            })?),
        };
        Self::to(out, file.map(Rotation::of))
    }

    fn to(out: Box<dyn Write + Send>, rotation: Option<Rotation>) -> Result<Self, String> {
        let writers = rotation.clone();
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let dropped = Dropped::default();
        let lost = dropped.clone();
        let writer = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&receiver, out, writers.as_ref(), &lost))
            .map_err(|error| format!("cannot start the access log's thread: {error}"))?;
        Ok(Self { sender: Some(sender), dropped, writer: Some(writer), rotation })
    }

    /// What opens a worker's end, on the worker.
    pub fn handle(&self) -> Handle {
        Handle { sender: self.sender.clone(), dropped: self.dropped.clone() }
    }

    /// What opens the file again; none where the log goes to standard output.
    pub fn rotation(&self) -> Option<Rotation> {
        self.rotation.clone()
    }

    /// Lines lost because the writer could not keep up, or could not write.
    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

impl Dropped {
    /// How many until now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, batch: &[u8]) {
        let lines = batch.split(|&byte| byte == b'\n').count().saturating_sub(1);
        self.0.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

impl Rotation {
    fn of(path: &Path) -> Self {
        Self(Arc::new(Successor { path: path.to_owned(), file: Mutex::default() }))
    }

    /// The file of the log.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Opens the file, and makes it where there is none: every line from the next one that is
    /// written goes there.
    ///
    /// # Errors
    /// When it cannot be opened; lines go to the file that is open.
    pub fn reopen(&self) -> io::Result<()> {
        let file = append_to(self.path())?;
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    fn take(&self) -> Option<File> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Handle {
    /// A worker's end. A task on the worker hands the lines on at least every 200 ms.
    pub fn lines(&self) -> Rc<Lines> {
        let lines = Rc::new(Lines {
            sender: self.sender.clone(),
            dropped: self.dropped.clone(),
            is_losing: Cell::new(false),
            buffer: RefCell::default(),
        });
        tokio::task::spawn_local(flush_often(Rc::downgrade(&lines)));
        lines
    }
}

impl Lines {
    /// Adds one line: `write` appends it without its line feed.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.buffer.borrow_mut();
        write(&mut buffer);
        buffer.push(b'\n');
        if buffer.len() >= BATCH_BYTES {
            self.hand_on(&mut buffer);
        }
    }

    fn hand_on(&self, buffer: &mut Vec<u8>) {
        if buffer.is_empty() {
            return;
        }
        let batch = std::mem::replace(buffer, Vec::with_capacity(BATCH_BYTES + LINE_BYTES_MAX));
        let Some(sender) = &self.sender else { return };
        let sent = sender.try_send(batch);
        let was_losing = self.is_losing.replace(sent.is_err());
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) = sent {
            self.dropped.add(&lost);
            if !was_losing {
                // The code bounds how often this is said where it comes and goes.
                let code = "access_log_full";
                tracing::warn!(
                    code,
                    "the access log is written too slowly; lines are lost and counted \
                     (gwproxy_access_log_dropped_total)"
                );
            }
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.hand_on(&mut self.buffer.take());
    }
}

async fn flush_often(lines: Weak<Lines>) {
    let mut ticks = tokio::time::interval(FLUSH);
    loop {
        ticks.tick().await;
        let Some(lines) = lines.upgrade() else { return };
        lines.hand_on(&mut lines.buffer.borrow_mut());
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(
    receiver: &Receiver<Vec<u8>>,
    mut out: Box<dyn Write + Send>,
    rotation: Option<&Rotation>,
    lost: &Dropped,
) {
    let mut failing = false;
    while let Ok(batch) = receiver.recv() {
        if let Some(file) = rotation.and_then(Rotation::take) {
            out = Box::new(file);
        }
        let result = out.write_all(&batch).and_then(|()| out.flush());
        match result {
            Ok(()) => failing = false,
            Err(error) => {
                lost.add(&batch);
                // Said once per outage: the log must not fill with complaints about itself.
                if !failing {
                    tracing::error!(%error, "the access log cannot be written; lines are lost");
                }
                failing = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs as a worker does, which is over then.
    fn on_a_worker(log: &AccessLog, write: impl FnOnce(&Lines)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async { write(&log.handle().lines()) });
    }

    #[test]
    fn lines_of_a_dropped_worker_reach_the_file() {
        let path = std::env::temp_dir().join(format!("gwproxy-log-{}", std::process::id()));
        let log = AccessLog::open(Some(&path)).unwrap();
        on_a_worker(&log, |lines| {
            for n in 0..3 {
                lines.add(|out| out.extend_from_slice(format!("line {n}").as_bytes()));
            }
        });
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 0\nline 1\nline 2\n");
        std::fs::remove_file(&path).unwrap();
    }

    /// Writes nothing until it is let, or fails.
    struct Slow {
        go_on: Receiver<()>,
        written: Arc<AtomicU64>,
        fails: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            if self.fails {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let lines = bytes.split(|&byte| byte == b'\n').count() - 1;
            self.written.fetch_add(lines as u64, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A disk that is slow, or full, costs lines and not a request: no line waits for it, and each
    /// is written or counted.
    #[test]
    fn lines_that_are_lost_are_counted() {
        const LINES: u64 = 5_000;
        for fails in [false, true] {
            let (let_go, go_on) = std::sync::mpsc::channel();
            let written = Arc::new(AtomicU64::new(0));
            let out = Slow { go_on, written: Arc::clone(&written), fails };
            let log = AccessLog::to(Box::new(out), None).unwrap();
            let dropped = log.dropped();
            on_a_worker(&log, |lines| {
                for _ in 0..LINES {
                    lines.add(|out| out.extend([b'x'; 1023]));
                }
            });
            // The queue and what is being written hold 65 batches of 32 lines.
            assert!(dropped.count() >= LINES - 66 * 32, "{}", dropped.count());
            drop(let_go);
            drop(log);
            let written = written.load(Ordering::Relaxed);
            assert_eq!(written + dropped.count(), LINES);
            assert_eq!(written == 0, fails);
        }
    }

    /// What `logrotate` does: rename, tell, and the old file has ended.
    #[test]
    fn a_file_opened_again_gets_the_next_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let log = AccessLog::open(Some(&path)).unwrap();
        let (rotation, sender) = (log.rotation().unwrap(), log.sender.clone().unwrap());
        let contents = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let send = |line: &[u8]| sender.send(line.to_vec()).unwrap();
        send(b"before\n");
        while contents(&path).is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        rotation.reopen().unwrap();
        assert_eq!(contents(&path), "", "it is there at once");
        assert!(path.exists());
        send(b"after\n");
        drop((sender, log));
        assert_eq!([contents(&old), contents(&path)], ["before\n", "after\n"]);

        drop(dir);
        assert!(rotation.reopen().is_err(), "its directory is gone");
    }

    #[test]
    fn an_unwritable_file_is_said() {
        let sentence = AccessLog::open(Some(Path::new("/no/such/dir/x"))).unwrap_err();
        assert!(sentence.contains("/no/such/dir/x") && sentence.contains("--access-log"));
    }
}
