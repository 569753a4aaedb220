//! The data plane's threads: shared-nothing workers, each a current-thread runtime.
//!
//! Nothing of a worker is `Send`: its futures, pools and timers live and die on one thread. What
//! must be one truth for the process (limits, breakers, node health) is shared atomics elsewhere.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};

use crate::net::accept::{Handover, Inbox};
use crate::timer::Timer;

/// A future that never leaves its thread.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Taking new work.
    Running,
    /// No new connections; open exchanges finish.
    Draining,
    /// The grace period is over.
    Stopped,
}

/// One worker, seen from its own thread.
pub struct Worker {
    /// 0 for the first worker.
    pub index: usize,
    timer: Timer,
    phase: Cell<Phase>,
    phases: watch::Receiver<Phase>,
    shared: Arc<Shared>,
    inbox: Inbox,
}

/// What workers know of each other.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connections: Box<[Load]>,
    /// Listening sockets, over all workers, from which clients may still be accepted.
    accepting: AtomicUsize,
    pub(crate) inboxes: Box<[mpsc::Sender<Handover>]>,
}

/// A connection count on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Load(pub(crate) AtomicUsize);

/// All workers, seen from the control plane.
#[derive(Debug)]
pub struct Workers {
    phase: watch::Sender<Phase>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Counts one live connection for as long as it lives.
#[derive(Debug)]
pub struct Tracked {
    shared: Arc<Shared>,
    index: usize,
}

/// Counts one listening socket for as long as it is open.
#[derive(Debug)]
pub(crate) struct Accepting(Arc<Shared>);

thread_local! {
    static STOPPING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's worker is being stopped: what is dropped now was cut off by the proxy
/// and not left by its client.
pub fn is_stopping() -> bool {
    STOPPING.get()
}

impl Worker {
    /// The worker's coarse deadlines.
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Whether the process takes no new work.
    pub fn is_draining(&self) -> bool {
        self.phase.get() >= Phase::Draining
    }

    /// Resolves when draining begins.
    pub async fn draining(&self) {
        let mut phases = self.phases.clone();
        // An error means the control plane is gone, which is the end as well.
        let _ = phases.wait_for(|&phase| phase >= Phase::Draining).await;
    }

    /// Runs `task` on this worker. A panic in it ends that task alone and is counted and told
    /// ([`panics`](crate::telemetry::panics)).
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    /// Counts a connection of this worker until the guard is dropped.
    pub fn track(&self) -> Tracked {
        self.track_on(self.index)
    }

    /// Counts a connection as that of another worker, which it is handed to.
    pub(crate) fn track_on(&self, index: usize) -> Tracked {
        if let Some(load) = self.shared.connections.get(index) {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
        Tracked { shared: Arc::clone(&self.shared), index }
    }

    /// Counts a listening socket until the guard is dropped.
    pub(crate) fn accepting(&self) -> Accepting {
        self.shared.accepting.fetch_add(1, Ordering::Relaxed);
        Accepting(Arc::clone(&self.shared))
    }

    /// Whether any worker still accepts clients.
    #[cfg(test)]
    pub(crate) fn is_accepting(&self) -> bool {
        self.shared.accepting.load(Ordering::Acquire) > 0
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    async fn follow_phases(&self) {
        let mut phases = self.phases.clone();
        loop {
            let phase = *phases.borrow_and_update();
            self.phase.set(phase);
            STOPPING.set(phase == Phase::Stopped);
            if phase >= Phase::Draining {
                self.timer.wake_all();
            }
            if phase == Phase::Stopped || phases.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Worker {
    /// A worker on the current thread, so that a test may pause time, and the phase it follows.
    /// It lives as long as [`Worker::run_for_test`] is polled.
    pub fn for_test() -> (Rc<Self>, watch::Sender<Phase>) {
        let (phase, phases) = watch::channel(Phase::Running);
        let shared = Shared {
            connections: Box::new([Load::default()]),
            accepting: AtomicUsize::new(0),
            inboxes: Box::new([]),
        };
        let worker = Self {
            index: 0,
            timer: Timer::new(),
            phase: Cell::new(Phase::Running),
            phases,
            shared: Arc::new(shared),
            inbox: Inbox::default(),
        };
        (Rc::new(worker), phase)
    }

    /// Drives the timer and the phases of a worker made by [`Worker::for_test`].
    pub async fn run_for_test(&self) {
        tokio::join!(self.timer.drive(), self.follow_phases());
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `count` threads called `name`-0 and so on. `setup` runs on each thread inside its runtime and starts
    /// what that worker serves.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be made.
    pub fn start<F>(name: &str, count: usize, setup: F) -> std::io::Result<Self>
    where
        F: Fn(Rc<Worker>) + Send + Sync + 'static,
    {
        let (phase, phases) = watch::channel(Phase::Running);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(256)).unzip();
        let shared = Arc::new(Shared {
            connections: (0..count).map(|_| Load::default()).collect(),
            accepting: AtomicUsize::new(0),
            inboxes: senders.into(),
        });
        let setup = Arc::new(setup);
        let mut threads = Vec::with_capacity(count);
        for (index, receiver) in receivers.into_iter().enumerate() {
            let (shared, phases) = (Arc::clone(&shared), phases.clone());
            let setup = Arc::clone(&setup);
            let runtime = tokio::runtime::Builder::new_current_thread();
            let thread = std::thread::Builder::new().name(format!("{name}-{index}"));
            threads.push(thread.spawn(move || {
                run_worker(runtime, index, shared, phases, receiver, &*setup);
            })?);
        }
        Ok(Self { phase, shared, threads })
    }

    /// Tells every worker where the process is in its life.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Live connections over all workers.
    pub fn connections(&self) -> usize {
        self.shared.connections.iter().map(|load| load.0.load(Ordering::Relaxed)).sum()
    }

    /// Whether every listening socket is closed and every connection is over. Only a process that
    /// drains gets there.
    pub fn are_done(&self) -> bool {
        // In this order: what was accepted is counted before its listening socket is closed.
        self.shared.accepting.load(Ordering::Acquire) == 0 && self.connections() == 0
    }

    /// A receiver of the process phase.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Stops every worker now and waits for the threads.
    pub fn stop(self) {
        self.enter(Phase::Stopped);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let Some(load) = self.shared.connections.get(self.index) {
            load.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn run_worker(
    mut builder: tokio::runtime::Builder,
    index: usize,
    shared: Arc<Shared>,
    phases: watch::Receiver<Phase>,
    receiver: mpsc::Receiver<Handover>,
    setup: &dyn Fn(Rc<Worker>),
) {
    let runtime: LocalRuntime = match builder.enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(worker = index, %error, "cannot start the worker's runtime");
            return;
        }
    };
    runtime.block_on(async move {
        let worker = Rc::new(Worker {
            index,
            timer: Timer::new(),
            phase: Cell::new(Phase::Running),
            phases,
            shared,
            inbox: Inbox::default(),
        });
        let timer = worker.timer.clone();
        tokio::task::spawn_local(async move { timer.drive().await });
        setup(Rc::clone(&worker));
        let receiving = Rc::clone(&worker);
        tokio::task::spawn_local(async move { receive(&receiving, receiver).await });
        worker.follow_phases().await;
        // The listeners hold their handlers, and those hold the worker: without this cut nothing
        // of the worker would ever be dropped, not even its end of the access log.
        worker.inbox.clear();
    });
}

/// Takes over the sockets other workers hand to this one.
async fn receive(worker: &Rc<Worker>, mut receiver: mpsc::Receiver<Handover>) {
    while let Some(handover) = receiver.recv().await {
        worker.inbox.take(worker, handover);
    }
}
