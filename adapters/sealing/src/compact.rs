//! Writing the live records into a new file, so that what was replaced and deleted takes no more room.

use std::sync::Arc;

use crate::disk::Medium;
use crate::error::{FileError, ReadError, WriteError};
use crate::format::{Base, FRAMES_FROM, Head, Kind, PAGE, push_frame, push_session};
use crate::index::{Index, Place};
use crate::store::{SealedStore, lock, read, read_frame, write};
use crate::writer::{Writer, fresh_session, to_u64};

/// Dead bytes below which compaction never is due.
const DEAD_BYTES_MIN: u64 = 1 << 20;
/// Sessions in one file from which compaction is due: each restart that writes begins one.
const SESSIONS_MAX: usize = 1_024;
/// Bytes gathered for one write.
const PIECE_BYTES: usize = 1 << 20;

impl SealedStore {
    /// Compacts when a quarter of the file is dead (and more than 1 MiB), or after a thousand restarts. Changes
    /// wait meanwhile, about two seconds for a million records; reads do not. Whether it did.
    ///
    /// # Errors
    /// As [`SealedStore::compact`].
    pub fn compact_if_due(&self) -> Result<bool, WriteError> {
        let usage = self.usage();
        let dead = usage
            .file_bytes
            .saturating_sub(FRAMES_FROM)
            .saturating_sub(usage.live_bytes);
        let sessions = read(&self.index).sessions.len();
        let due = dead > (usage.live_bytes / 3).max(DEAD_BYTES_MIN) || sessions > SESSIONS_MAX;
        if due {
            self.compact()?;
        }
        Ok(due)
    }

    /// Compacts now. State and root stay what they are.
    ///
    /// # Errors
    /// [`WriteError`]. The old file stands, except after [`WriteError::Poisoned`].
    pub fn compact(&self) -> Result<(), WriteError> {
        let mut writer = lock(&self.writer);
        if let Some(error) = writer.poisoned() {
            return Err(error);
        }
        let made = self.make_compacted(&writer);
        let (next, index) = match made {
            Ok(made) => made,
            Err(error) => {
                // A leftover is overwritten by the next attempt.
                let _ = std::fs::remove_file(&self.new_path);
                return Err(error);
            }
        };
        let renamed = self.disk.rename(&self.new_path, &self.path);
        renamed.map_err(|error| FileError::new("rename", &self.new_path, error))?;
        let synced = self
            .path
            .parent()
            .map_or(Ok(()), |dir| self.disk.sync_dir(dir));
        if let Err(error) = synced {
            // Either file may be there after a crash: what were written now to one could be lost.
            return Err(writer.poison(FileError::new("sync the folder of", &self.path, error)));
        }
        *writer = next;
        *write(&self.index) = index;
        Ok(())
    }

    fn make_compacted(&self, writer: &Writer) -> Result<(Writer, Index), WriteError> {
        let path = &self.new_path;
        let at = |action| move |error| WriteError::from(FileError::new(action, path, error));
        let places = read(&self.index).in_order();
        let file = self.disk.create(path).map_err(at("create"))?;
        let mut index = read(&self.index).successor(file.clone());
        index.reserve(to_u64(places.len()));
        let base = Base {
            state: writer.state(),
            live: to_u64(places.len()),
            marks: writer.marks().copied().collect(),
        };
        let (salt, key) = fresh_session(&self.keys)?;
        index.sessions.insert(FRAMES_FROM, key.clone());
        let mut piece = Piece::new(file.clone());
        let plain = base.encode();
        push_session(
            &mut piece.bytes,
            &key,
            &salt,
            Kind::Base,
            &base.state,
            &plain,
        );

        let mut number = 0_u32;
        for (old, session, place) in places {
            let damaged = ReadError::Damaged {
                offset: place.offset(),
            };
            let plain = read_frame(old.as_ref(), &self.path, place, |head, bytes| {
                session.open(head.number, &head.encode(), bytes)
            })?
            .ok_or(damaged.clone())?;
            let (record, _) = crate::format::split_record(&plain).ok_or(damaged)?;
            number = number.checked_add(1).ok_or(WriteError::Bounds(
                "a store has at most 4,294,967,295 records",
            ))?;
            let offset = piece.end();
            push_frame(&mut piece.bytes, &key, Kind::Live, false, number, &[&plain]);
            let name = index.name(record);
            index.insert(name, Place::new(offset, piece.end() - offset));
            piece.write_if_full().map_err(at("write"))?;
        }
        piece.write().map_err(at("write"))?;
        let end = piece.end();
        let head = Head {
            state: base.state,
            end,
        };
        file.write(0, &self.header.seal(&self.keys))
            .map_err(at("write"))?;
        file.write(PAGE, &head.seal(&self.keys))
            .map_err(at("write"))?;
        file.sync().map_err(at("sync"))?;
        let next = Writer::new(file, base.state, end, base.marks, true, false);
        Ok((next, index))
    }
}

/// Frames on their way into a file.
struct Piece {
    file: Arc<dyn Medium>,
    from: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn new(file: Arc<dyn Medium>) -> Self {
        Self {
            file,
            from: FRAMES_FROM,
            bytes: Vec::new(),
        }
    }

    fn end(&self) -> u64 {
        self.from + to_u64(self.bytes.len())
    }

    fn write_if_full(&mut self) -> std::io::Result<()> {
        if self.bytes.len() < PIECE_BYTES {
            return Ok(());
        }
        self.write()
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.file.write(self.from, &self.bytes)?;
        self.from = self.end();
        self.bytes.clear();
        Ok(())
    }
}
