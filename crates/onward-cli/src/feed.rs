//! Where a stream's bytes come from: read ahead by a thread, so that whoever waits for them can be interrupted.

use crate::exit::Usage;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Chunks that are read ahead, and bytes in each: what has come and is not yet learned stays with its sender.
const CHUNKS: usize = 4;
const CHUNK: usize = 1 << 16;

/// How often somebody who waits looks up.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A stream's bytes.
#[derive(Debug)]
pub struct Feed {
    /// What errors call it.
    pub name: String,
    chunks: Receiver<Message>,
    /// Memory on its way back to the reading thread.
    back: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
    stall: Duration,
    stop: fn() -> bool,
}

#[derive(Debug)]
enum Message {
    Bytes(Vec<u8>),
    /// One sender has left; another may come.
    Left,
    Failed(io::Error),
}

impl Feed {
    /// The bytes of a file, or of standard input, which is called `-`.
    ///
    /// Reading answers [`ErrorKind::TimedOut`] where nothing has come for `stall`, and when `stop` says so.
    ///
    /// # Errors
    /// A [`Usage`] where the file cannot be opened.
    pub fn open(path: &Path, stall: Duration, stop: fn() -> bool) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Feed::start("standard input".into(), stall, stop, |to| to.all_of(io::stdin())));
        }
        let name = path.display().to_string();
        let unread = |error| Usage(format!("{name}: it could not be read: {error}"));
        let file = File::open(path).map_err(unread)?;
        if file.metadata().map_err(unread)?.is_dir() {
            return Err(Usage(format!("{name}: it is a directory; expected a file of records")).into());
        }
        Ok(Feed::start(name, stall, stop, |to| to.all_of(file)))
    }

    /// The bytes that come over TCP, from one sender after another, for ever. Answers the address listened at, too.
    ///
    /// # Errors
    /// A [`Usage`] where the address is not of this machine alone, or cannot be listened at.
    pub fn listen(address: SocketAddr, stall: Duration, stop: fn() -> bool) -> Result<(Self, SocketAddr)> {
        if !address.ip().is_loopback() {
            let problem = "only programs on this machine may send: use 127.0.0.1 or [::1], and a tunnel from elsewhere";
            return Err(Usage(format!("--listen {address}: {problem}")).into());
        }
        let listener = TcpListener::bind(address).map_err(|error| Usage(format!("--listen {address}: {error}")))?;
        let address = listener.local_addr().context("the socket has no address")?;
        let feed = Feed::start(address.to_string(), stall, stop, move |to| {
            for sender in listener.incoming() {
                // A sender that fails is one that has left.
                let going_on = match sender {
                    Ok(sender) => to.bytes_of(sender).is_ok_and(|_| to.send(Message::Left)),
                    Err(error) => to.send(Message::Failed(error)),
                };
                if !going_on {
                    return;
                }
            }
        });
        Ok((feed, address))
    }

    fn start(name: String, stall: Duration, stop: fn() -> bool, read: impl FnOnce(&Reader) + Send + 'static) -> Self {
        let (to, chunks) = sync_channel(CHUNKS);
        let (back, spare) = sync_channel(CHUNKS + 1);
        std::thread::spawn(move || read(&Reader { to, spare }));
        Feed { name, chunks, back, chunk: Vec::new(), at: 0, ended: false, stall, stop }
    }
}

/// The reading thread's end.
struct Reader {
    to: SyncSender<Message>,
    spare: Receiver<Vec<u8>>,
}

impl Reader {
    /// Answers whether anybody still listens.
    fn send(&self, message: Message) -> bool {
        self.to.send(message).is_ok()
    }

    fn all_of(&self, source: impl Read) {
        if let Ok(Err(error)) = self.bytes_of(source) {
            self.send(Message::Failed(error));
        }
    }

    /// Sends all bytes of a source; answers how that ended, or an error where nobody listens any more.
    fn bytes_of(&self, mut source: impl Read) -> Result<io::Result<()>, ()> {
        loop {
            let mut chunk = self.spare.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            match source.read(&mut chunk) {
                Ok(0) => return Ok(Ok(())),
                Ok(read) => {
                    chunk.truncate(read);
                    if !self.send(Message::Bytes(chunk)) {
                        return Err(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

impl Read for Feed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let since = Instant::now();
        while self.at == self.chunk.len() {
            if self.ended {
                return Ok(0);
            }
            match self.chunks.recv_timeout(LOOK_UP.min(self.stall)) {
                Ok(Message::Bytes(chunk)) => {
                    let used = std::mem::replace(&mut self.chunk, chunk);
                    self.at = 0;
                    // Where the reading thread has ended, nobody wants it.
                    let _ = self.back.try_send(used);
                }
                Ok(Message::Left) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(Message::Failed(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if (self.stop)() || since.elapsed() >= self.stall {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
        let take = to.len().min(self.chunk.len() - self.at);
        to[..take].copy_from_slice(&self.chunk[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}
