//! A layer's archive in blocks: a thread inflates, and whoever applies the layer reads.
//!
//! Both work at the same time, and as far ahead of each other as there are blocks: a block is used again when nobody
//! has a part of it any more, so memory is bounded whatever the layer is.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::inflate::Inflated;

/// Large enough for large writes, small enough to stay in a processor's cache on its way through the threads.
const BLOCK: usize = 256 * 1024;

/// How many blocks a layer has: 3 MiB together.
const BLOCKS: usize = 12;

/// A buffer that goes back to the inflating thread when it is dropped.
struct Block {
    buffer: Vec<u8>,
    length: usize,
    unused: Sender<Vec<u8>>,
}

impl Drop for Block {
    fn drop(&mut self) {
        // Nobody waits for it once the layer is inflated.
        let _ = self.unused.send(std::mem::take(&mut self.buffer));
    }
}

/// A part of a block, which lives as long as anybody has one.
#[derive(Clone)]
pub(super) struct Part {
    block: Arc<Block>,
    range: Range<usize>,
}

impl Part {
    pub fn bytes(&self) -> &[u8] {
        &self.block.buffer[self.range.clone()]
    }
}

/// What the inflating thread hands on.
enum Step {
    Block(Block),
    /// Everything was inflated.
    End,
    Failed(io::Error),
}

/// The bytes of a layer's archive, while they are inflated.
pub(super) struct Blocks {
    steps: Receiver<Step>,
    current: Option<Arc<Block>>,
    at: usize,
    ended: bool,
    /// Bytes that were received.
    size: u64,
    /// How many more may be.
    room: u64,
    /// Where all bytes of all layers are counted.
    counted: Arc<AtomicU64>,
}

/// A layer inflates to more than was allowed.
#[derive(Debug, thiserror::Error)]
#[error("it inflates to more than is allowed")]
pub(super) struct NoRoom;

impl NoRoom {
    /// Whether this is why something could not be read.
    pub fn is_why(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl Blocks {
    /// Begins to inflate a layer. The thread ends by itself when this is dropped, as soon as it has something to hand on.
    pub fn begin(layer: impl BufRead + Send + 'static, counted: Arc<AtomicU64>) -> Self {
        let (to_reader, steps) = channel();
        std::thread::spawn(move || inflate(layer, &to_reader));
        Self { steps, current: None, at: 0, ended: false, size: 0, room: u64::MAX, counted }
    }

    /// From now on, more than so many bytes are an error: [`NoRoom`].
    pub fn limit(&mut self, room: u64) {
        self.room = room;
    }

    /// Some bytes, which may be kept; at most `limit`, and none at the end.
    pub fn part(&mut self, limit: usize) -> io::Result<Option<Part>> {
        let count = self.fill_buf()?.len().min(limit);
        let Some(block) = self.current.as_ref().filter(|_| count > 0) else { return Ok(None) };
        let part = Part { block: Arc::clone(block), range: self.at..self.at + count };
        self.consume(count);
        Ok(Some(part))
    }

    /// How many bytes there are, once they were read to their end.
    pub fn finish(mut self) -> io::Result<u64> {
        loop {
            match self.fill_buf()?.len() {
                0 => return Ok(self.size),
                count => self.consume(count),
            }
        }
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.current.as_ref().is_none_or(|block| self.at == block.length) {
            self.current = None;
            match self.steps.recv().map_err(|_| broke_off())? {
                Step::Block(block) => {
                    self.size += block.length as u64;
                    self.counted.fetch_add(block.length as u64, Ordering::Relaxed);
                    self.room = self.room.checked_sub(block.length as u64).ok_or_else(|| io::Error::other(NoRoom))?;
                    (self.current, self.at) = (Some(Arc::new(block)), 0);
                }
                Step::End => self.ended = true,
                Step::Failed(error) => return Err(error),
            }
        }
        Ok(self.current.as_ref().map_or(&[], |block| &block.buffer[self.at..block.length]))
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// A thread ended by itself: a mistake of ours.
fn broke_off() -> io::Error {
    io::Error::other("inflating it broke off")
}

/// The inflating thread. It ends early when nobody wants more.
fn inflate(layer: impl BufRead, to: &Sender<Step>) {
    let (unused, free) = channel();
    for _ in 0..BLOCKS {
        // Whoever takes it fills it: until then it is no memory.
        let _ = unused.send(vec![0; BLOCK]);
    }
    let mut inflated = match Inflated::new(layer) {
        Ok(inflated) => inflated,
        Err(error) => {
            let _ = to.send(Step::Failed(error));
            return;
        }
    };
    // We hold a sender ourselves, so there is always a block to wait for.
    while let Ok(buffer) = free.recv() {
        let mut block = Block { buffer, length: 0, unused: unused.clone() };
        let filled = fill(&mut inflated, &mut block.buffer);
        let (length, last) = match filled {
            Ok(length) => (length, (length < BLOCK).then_some(Step::End)),
            Err((length, error)) => (length, Some(Step::Failed(error))),
        };
        block.length = length;
        // What came before an error is applied all the same: an entry that is refused is told of first.
        if length > 0 && to.send(Step::Block(block)).is_err() {
            return;
        }
        if let Some(last) = last {
            let _ = to.send(last);
            return;
        }
    }
}

/// Reads until the buffer is full or the input ends. An error comes with what was read before it.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, (usize, io::Error)> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((length, error)),
        }
    }
    Ok(length)
}
