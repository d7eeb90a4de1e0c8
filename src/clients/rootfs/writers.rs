//! Threads that fill the files that were created.
//!
//! Whoever applies a layer creates every name, in the order of the layer, and hands the open file over. Whatever happens
//! to that name afterwards (a hard link, a replacement, a whiteout), a writer has its file and no path.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::blocks::Part;
use super::layer::{LayerError, NewFile};

/// How many jobs wait for one writer at most. Each may hold a file open, and a part of a block.
const WAITING: usize = 64;

/// The threads. They end when this is dropped.
pub(super) struct Writers {
    writers: Vec<Writer>,
    failed: Failed,
}

/// The first error of any writer, until it is told.
type Failed = Arc<Mutex<Option<LayerError>>>;

struct Writer {
    jobs: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
}

enum Job {
    /// A file whose data is this.
    Whole(NewFile, Option<Part>),
    /// A file whose data follows.
    Open(NewFile),
    /// Data of the open file, and where in it.
    Data(Part, u64),
    /// That was all of its data.
    Close,
    /// Whoever asks is told when everything before is done.
    Settle(Sender<()>),
}

/// A file on its way to a writer.
pub(super) struct Sink<'a>(&'a Writer);

impl Writers {
    /// Starts as many as there are processors, but two at least and four at most: file systems lock, and disks are slow.
    pub fn start() -> Self {
        let count = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4));
        let failed = Failed::default();
        let writers = (0..count).map(|_| Writer::start(Arc::clone(&failed))).collect();
        Self { writers, failed }
    }

    /// Fills a file with one part of data, or none.
    pub fn fill(&self, file: NewFile, data: Option<Part>) {
        self.idlest().send(Job::Whole(file, data));
    }

    /// Fills a file with data that comes by and by: all by one writer, in order.
    pub fn open(&self, file: NewFile) -> Sink<'_> {
        let writer = self.idlest();
        writer.send(Job::Open(file));
        Sink(writer)
    }

    /// What went wrong so far, once.
    ///
    /// # Errors
    /// The first error of any writer.
    pub fn check(&self) -> Result<(), LayerError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Waits until all files are as they must be.
    ///
    /// # Errors
    /// The first error of any writer.
    pub fn settle(&self) -> Result<(), LayerError> {
        let (done, all_done) = channel();
        for writer in &self.writers {
            writer.send(Job::Settle(done.clone()));
        }
        drop(done);
        let settled = all_done.iter().count();
        self.check()?;
        assert!(settled == self.writers.len(), "a writer ends only when it is dropped");
        Ok(())
    }

    fn idlest(&self) -> &Writer {
        let idlest = self.writers.iter().min_by_key(|writer| writer.waiting.load(Ordering::Relaxed));
        idlest.expect("there are two at least")
    }
}

impl Sink<'_> {
    /// Writes data at a place of the file.
    pub fn write(&self, data: Part, at: u64) {
        self.0.send(Job::Data(data, at));
    }

    /// Ends the file. One that is dropped without that stays as it is.
    pub fn close(self) {
        self.0.send(Job::Close);
    }
}

impl Writer {
    fn start(failed: Failed) -> Self {
        let (jobs, received) = sync_channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        std::thread::spawn(move || run(&received, &counter, &failed));
        Self { jobs, waiting }
    }

    fn send(&self, job: Job) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A writer that is gone is noticed when the layer settles.
        let _ = self.jobs.send(job);
    }
}

fn run(jobs: &Receiver<Job>, waiting: &AtomicUsize, failed: &Failed) {
    let mut open = None;
    for job in jobs {
        let result = match job {
            Job::Whole(file, data) => {
                data.map_or(Ok(()), |data| file.write(data.bytes(), 0)).and_then(|()| file.finish())
            }
            Job::Open(file) => {
                open = Some(file);
                Ok(())
            }
            Job::Data(data, at) => open.as_ref().map_or(Ok(()), |file| file.write(data.bytes(), at)),
            Job::Close => open.take().map_or(Ok(()), NewFile::finish),
            Job::Settle(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
        if let Err(error) = result {
            open = None;
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
