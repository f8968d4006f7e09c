//! Subscriptions: blocks from a height on, from memory or from the log.

use std::sync::Arc;

use domain::Height;
use ledger::port::{Block, Blocks, ReadError};
use tokio::sync::watch;

use crate::log::{self, Reader};
use crate::shared::{Shared, lock};

/// Blocks one after the other.
pub struct SoloBlocks {
    shared: Arc<Shared>,
    height: watch::Receiver<Height>,
    next: Height,
    /// Where the last block was read from the log.
    reader: Option<Reader>,
}

impl SoloBlocks {
    pub(crate) fn new(shared: Arc<Shared>, from: Height) -> Self {
        let height = shared.height.subscribe();
        Self {
            shared,
            height,
            next: from,
            reader: None,
        }
    }
}

impl Blocks for SoloBlocks {
    async fn next(&mut self) -> Result<Block, ReadError> {
        let wanted = self.next;
        self.height
            .wait_for(|height| *height >= wanted)
            .await
            .map_err(|_| ReadError::Unavailable("it is shutting down".to_owned()))?;
        let recent = lock(&self.shared.recent).get(wanted);
        let block = match recent {
            Some(block) => {
                self.reader = None;
                block.as_ref().clone()
            }
            None => {
                let (shared, reader) = (self.shared.clone(), self.reader.take());
                let read = move || read_from_log(&shared, reader, wanted);
                let (block, reader) = tokio::task::spawn_blocking(read)
                    .await
                    .map_err(|error| ReadError::Unavailable(error.to_string()))??;
                self.reader = Some(reader);
                block
            }
        };
        self.next = Height(wanted.0.saturating_add(1));
        Ok(block)
    }
}

/// One block, from memory or from the log.
pub(crate) fn block_at(shared: &Arc<Shared>, height: Height) -> Result<Block, ReadError> {
    if let Some(block) = lock(&shared.recent).get(height) {
        return Ok(block.as_ref().clone());
    }
    read_from_log(shared, None, height).map(|(block, _)| block)
}

fn read_from_log(
    shared: &Shared,
    reader: Option<Reader>,
    wanted: Height,
) -> Result<(Block, Reader), ReadError> {
    let unavailable = |error: String| ReadError::Unavailable(error);
    let (disk, dir) = (&*shared.disk, &shared.dir);
    if let Some(mut reader) = reader {
        // Goes on in the same file, as far as it reaches.
        reader
            .refresh()
            .map_err(|error| unavailable(error.to_string()))?;
        while let Some(block) = reader.next().map_err(|e| unavailable(e.to_string()))? {
            if block.last.header.height == wanted {
                return Ok((block, reader));
            }
        }
    }
    let files = log::files(disk, dir).map_err(|error| unavailable(error.to_string()))?;
    let at = files.partition_point(|first| *first <= wanted);
    let Some(first) = at.checked_sub(1).and_then(|at| files.get(at)) else {
        return Err(ReadError::Pruned(wanted));
    };
    let mut reader = Reader::open(disk, dir, shared.chain.genesis, *first)
        .map_err(|error| unavailable(error.to_string()))?;
    while let Some(block) = reader.next().map_err(|e| unavailable(e.to_string()))? {
        if block.last.header.height == wanted {
            return Ok((block, reader));
        }
    }
    Err(ReadError::Pruned(wanted))
}
