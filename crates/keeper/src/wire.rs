//! Frames between supervisor and keeper: four bytes of length, one byte that counts the descriptors, JSON.
//!
//! Owns queues and framing, not the socket: both ends are non-blocking, one in the keeper's loop, the other in tokio. Descriptors
//! travel with the bytes of a `sendmsg`, always before or with the frame they belong to and in order, so the count in the
//! header is all that is needed to hand them out. Many frames leave in one system call.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::drivers::sockets;

const HEADER: usize = 5;
/// Longer frames are a fault, not a message.
const LIMIT: usize = 16 * 1024 * 1024;
/// The kernel takes 253 descriptors in one message.
const DESCRIPTORS: usize = 200;
const CHUNK: usize = 128 * 1024;
/// An empty queue that grew beyond this in a burst gives its memory back.
const KEEP: usize = 64 * 1024;

/// Outgoing frames.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: VecDeque<u8>,
    /// How many bytes have ever left; positions below count from the same origin.
    sent: u64,
    descriptors: VecDeque<(u64, OwnedFd)>,
}

impl Outbox {
    /// Appends a frame.
    ///
    /// # Errors
    /// When the message cannot be written as JSON or is too long.
    pub fn push<T: Serialize>(&mut self, message: &T, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let body = serde_json::to_vec(message).map_err(io::Error::other)?;
        if body.len() > LIMIT || descriptors.len() > 8 {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let position = self.sent + self.bytes.len() as u64;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let count = u8::try_from(descriptors.len()).map_err(io::Error::other)?;
        self.bytes.extend(length.to_be_bytes());
        self.bytes.push_back(count);
        self.bytes.extend(body);
        self.descriptors.extend(descriptors.into_iter().map(|descriptor| (position, descriptor)));
        Ok(())
    }
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// Sends what the socket takes. True: all of it is gone.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn flush(&mut self, socket: RawFd) -> io::Result<bool> {
        while !self.bytes.is_empty() {
            // A chunk ends before the first frame whose descriptors would be too many for one message.
            let end = self.descriptors.get(DESCRIPTORS).map_or(u64::MAX, |(position, _)| position - self.sent);
            let (front, _) = self.bytes.as_slices();
            let length = front.len().min(CHUNK).min(usize::try_from(end).unwrap_or(usize::MAX).max(1));
            let upto = self.sent + length as u64;
            let raw: Vec<RawFd> = self
                .descriptors
                .iter()
                .take(DESCRIPTORS)
                .take_while(|(position, _)| *position < upto)
                .map(|(_, descriptor)| descriptor.as_raw_fd())
                .collect();
            let rights = [ControlMessage::ScmRights(&raw)];
            let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
            match sendmsg::<()>(socket, &[IoSlice::new(&front[..length])], control, sockets::SEND, None) {
                Ok(count) => {
                    self.bytes.drain(..count);
                    self.sent += count as u64;
                    self.descriptors.drain(..raw.len());
                }
                // ETOOMANYREFS: the receiver has not taken the descriptors that are on their way yet.
                Err(nix::Error::EAGAIN | nix::Error::ETOOMANYREFS) => return Ok(false),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.bytes.capacity() > KEEP {
            self.bytes = VecDeque::new();
            self.descriptors = VecDeque::new();
        }
        Ok(true)
    }
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Bytes.
    Data,
    /// Nothing now.
    Nothing,
    /// The other end is gone.
    End,
}

/// Incoming frames.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    descriptors: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads once.
    ///
    /// # Errors
    /// What the system says; descriptors that did not fit into our table.
    pub fn fill(&mut self, socket: RawFd) -> io::Result<ReadOutcome> {
        // On the stack: one from the heap that large would be given back to the system after each read, and come again.
        let mut chunk = [0u8; 16 * 1024];
        let mut control = nix::cmsg_space!([RawFd; 253]);
        let count = {
            let mut slices = [IoSliceMut::new(&mut chunk)];
            let message = match recvmsg::<()>(socket, &mut slices, Some(&mut control), sockets::RECEIVE) {
                Ok(message) => message,
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(ReadOutcome::Nothing),
                Err(nix::Error::ECONNRESET) => return Ok(ReadOutcome::End),
                Err(error) => return Err(error.into()),
            };
            for part in message.cmsgs().map_err(io::Error::from)? {
                if let ControlMessageOwned::ScmRights(raw) = part {
                    for descriptor in raw {
                        // SAFETY: the kernel has just opened this descriptor for us and nobody else knows it.
                        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
                        sockets::settle_received(&descriptor)?;
                        self.descriptors.push_back(descriptor);
                    }
                }
            }
            if message.flags.contains(MsgFlags::MSG_CTRUNC) {
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            }
            message.bytes
        };
        if count == 0 {
            return Ok(ReadOutcome::End);
        }
        // Not at every read: a long queue would be moved once for each piece that comes.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(ReadOutcome::Data)
    }
    /// Whether a whole frame waits.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        self.frame_length().is_some_and(|length| self.bytes.len() - self.start >= HEADER + length)
    }
    fn frame_length(&self) -> Option<usize> {
        let head = self.bytes.get(self.start..self.start + 4)?;
        Some(u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize)
    }
    /// Takes the next whole frame with its descriptors.
    ///
    /// # Errors
    /// When the bytes are none of our frames.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some(length) = self.frame_length() else { return Ok(None) };
        if length > LIMIT {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let body = self.start + HEADER;
        let Some(bytes) = self.bytes.get(body..body + length) else { return Ok(None) };
        let count = usize::from(self.bytes[self.start + 4]);
        if self.descriptors.len() < count {
            return Err(io::Error::other("a frame came without its descriptors"));
        }
        let message = serde_json::from_slice(bytes).map_err(io::Error::other)?;
        self.start = body + length;
        if self.start == self.bytes.len() && self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
            self.start = 0;
        }
        Ok(Some((message, self.descriptors.drain(..count).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_descriptors_arrive_in_order_through_a_full_socket() {
        let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut out, mut inbox) = (Outbox::default(), Inbox::default());
        let mut writers = Vec::new();
        for number in 0..300u32 {
            let (read, write) = nix::unistd::pipe().unwrap();
            writers.push(write);
            let text = format!("{number}-{}", "x".repeat(if number % 50 == 0 { 200_000 } else { 10 }));
            out.push(&text, if number % 3 == 0 { Vec::new() } else { vec![read] }).unwrap();
        }
        let mut next = 0u32;
        while next < 300 {
            out.flush(left.as_raw_fd()).unwrap();
            inbox.fill(right.as_raw_fd()).unwrap();
            while let Some((text, descriptors)) = inbox.take::<String>().unwrap() {
                assert!(text.starts_with(&format!("{next}-")));
                assert_eq!(descriptors.len(), usize::from(!next.is_multiple_of(3)));
                for descriptor in descriptors {
                    nix::unistd::write(&writers[next as usize], &next.to_be_bytes()).unwrap();
                    let mut bytes = [0; 4];
                    nix::unistd::read(&descriptor, &mut bytes).unwrap();
                    assert_eq!(u32::from_be_bytes(bytes), next);
                }
                next += 1;
            }
        }
        drop(left);
        assert_eq!(inbox.fill(right.as_raw_fd()).unwrap(), ReadOutcome::End);
    }
}
