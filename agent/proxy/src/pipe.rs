//! One direction of one connection: reads from one socket, lets the chain of toxics pass, writes to the other.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use crate::chain::{Chain, Placed};
use crate::clock::Clock;
use crate::spec::Stream;
use crate::toxics::{End, Item};

/// The list of toxics of a proxy, in both directions, as pipes follow it.
pub(crate) type Toxics = watch::Receiver<Arc<[Placed]>>;

/// What a pipe may hold back before it stops reading, so that the sender feels the delay as back-pressure.
const MOST_HELD_BYTES: usize = 8 << 20;

/// Reads grow from the least to the most while they fill the buffer, so that idle connections stay small.
const LEAST_READ_BYTES: usize = 16 << 10;
const MOST_READ_BYTES: usize = 256 << 10;

/// Chunks written with one system call.
const CHUNKS_PER_WRITE: usize = 64;

/// The whole connection has to go, not only one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severed {
    /// Broken off: both ends shall see a reset.
    Reset,
    /// Closed by a toxic.
    Closed,
}

pub(crate) struct Pipe<'c> {
    stream: Stream,
    source: ReadHalf<'c>,
    sink: WriteHalf<'c>,
    toxics: Toxics,
    clock: &'c Clock,
    chain: Chain,
    buffer: BytesMut,
    read_bytes: usize,
    /// Set by the pipe of the other direction when writing to our source fails: the end that we then read is a
    /// reset, for the system reports the error only once.
    source_lost: &'c AtomicBool,
    sink_lost: &'c AtomicBool,
}

enum Step {
    /// The way of passing data may have changed.
    Reconsider,
    /// The end went through.
    Finished,
}

impl<'c> Pipe<'c> {
    pub(crate) fn new(
        stream: Stream,
        (source, source_lost): (ReadHalf<'c>, &'c AtomicBool),
        (sink, sink_lost): (WriteHalf<'c>, &'c AtomicBool),
        toxics: Toxics,
        clock: &'c Clock,
    ) -> Self {
        Self {
            stream,
            source,
            sink,
            toxics,
            clock,
            chain: Chain::default(),
            buffer: BytesMut::new(),
            read_bytes: LEAST_READ_BYTES,
            source_lost,
            sink_lost,
        }
    }

    /// Carries data until the sender is done and everything has been written; then the other end has seen the FIN.
    pub(crate) async fn run(mut self) -> Result<(), Severed> {
        self.adopt_toxics();
        loop {
            let step = if self.chain.is_idle() { self.pass_through().await } else { self.delay().await };
            if let Step::Finished = step? {
                return Ok(());
            }
        }
    }

    fn adopt_toxics(&mut self) {
        let toxics = Arc::clone(&self.toxics.borrow_and_update());
        self.chain.adopt(&toxics, self.stream, Instant::now());
    }

    /// The way without toxics: one buffer, read and written.
    async fn pass_through(&mut self) -> Result<Step, Severed> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(self.read_bytes);
            let read = tokio::select! {
                // Reading first spares the look at the watch while data flows.
                biased;
                read = self.source.read_buf(&mut self.buffer) => read,
                _ = self.toxics.changed() => {
                    self.adopt_toxics();
                    return Ok(Step::Reconsider);
                }
            };
            let end = self.end_in(read);
            if self.toxics.has_changed().unwrap_or(false) {
                // Whoever changed the toxics before these bytes were sent expects them to be acted on.
                self.adopt_toxics();
                let item = self.take_item(end);
                self.chain.push(item, Instant::now());
                return Ok(Step::Reconsider);
            }
            if let Some(end) = end {
                return self.finish(end, true).await;
            }
            if self.sink.write_all(&self.buffer).await.is_err() {
                return Ok(self.lose_sink());
            }
            self.grow();
        }
    }

    /// The way with toxics: what is read goes into the chain, what is due comes out of it.
    async fn delay(&mut self) -> Result<Step, Severed> {
        self.buffer.clear();
        loop {
            self.chain.advance(Instant::now());
            if self.write_what_is_due().is_err() {
                return Ok(self.lose_sink());
            }
            if let Some(end) = self.chain.ended() {
                return self.finish(end, self.chain.sender_ended()).await;
            }
            if self.chain.is_idle() {
                return Ok(Step::Reconsider);
            }
            if self.buffer.capacity() < self.read_bytes / 4 {
                self.buffer.reserve(self.read_bytes);
            }
            let reading = !self.chain.sender_ended() && self.chain.cost() < MOST_HELD_BYTES;
            let writing = self.chain.next_bytes(&mut [IoSlice::new(&[])]) > 0;
            let due = self.chain.next_due();
            let read = tokio::select! {
                biased;
                _ = self.toxics.changed() => None,
                read = self.source.read_buf(&mut self.buffer), if reading => Some(read),
                () = self.clock.sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
                _ = self.sink.writable(), if writing => continue,
            };
            let Some(read) = read else {
                self.adopt_toxics();
                continue;
            };
            let arrived = Instant::now();
            let end = self.end_in(read);
            let item = self.take_item(end);
            self.chain.push(item, arrived);
        }
    }

    fn write_what_is_due(&mut self) -> io::Result<()> {
        loop {
            let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
            let filled = self.chain.next_bytes(&mut slices);
            if filled == 0 {
                return Ok(());
            }
            match self.sink.try_write_vectored(&slices[..filled]) {
                Ok(written) => self.chain.wrote(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The end of the stream, if that is what was read.
    fn end_in(&self, read: io::Result<usize>) -> Option<End> {
        match read {
            Ok(0) if self.source_lost.load(Ordering::Relaxed) => Some(End::Reset),
            Ok(0) => Some(End::Fin),
            Ok(_) => None,
            Err(_) => Some(End::Reset),
        }
    }

    /// What was read: the end, or the bytes in the buffer.
    fn take_item(&mut self, end: Option<End>) -> Item {
        match end {
            Some(end) => Item::End(end),
            None => {
                self.grow();
                Item::Data(self.buffer.split().freeze())
            }
        }
    }

    /// Reads more at a time if the last read filled the buffer.
    fn grow(&mut self) {
        if self.buffer.len() == self.buffer.capacity() {
            self.read_bytes = (self.read_bytes * 2).min(MOST_READ_BYTES);
        }
    }

    /// Nobody takes our data any more. The other direction may still have data in flight, and then reads the end.
    fn lose_sink(&self) -> Step {
        self.sink_lost.store(true, Ordering::Relaxed);
        Step::Finished
    }

    async fn finish(&mut self, end: End, by_sender: bool) -> Result<Step, Severed> {
        match end {
            End::Reset => Err(Severed::Reset),
            End::Fin if !by_sender => Err(Severed::Closed),
            End::Fin => {
                if self.sink.shutdown().await.is_err() {
                    return Ok(self.lose_sink());
                }
                Ok(Step::Finished)
            }
        }
    }
}
