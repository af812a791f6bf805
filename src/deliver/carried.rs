//! The events that a stream carried, and which of them its browser has read.

use std::sync::Arc;

use thin_vec::ThinVec;

use crate::model::event::Event;
use crate::model::returned::{LastEventId, Mark};

/// An event that is not acknowledged, and how often it was written to a stream.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    pub(super) event: Arc<Event>,
    pub(super) writes: u8,
}

/// The events of a stream that may not have been read, oldest first, and the ids by which its browser can report how far it has
/// read.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) events: ThinVec<Unread>,
    begin: Mark,
    pub(super) end: Option<Mark>,
}

/// What a browser has read of a stream, according to its `Last-Event-ID`.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) read: Vec<Unread>,
    /// Which stream.
    pub(super) index: usize,
    /// Whether the browser will never read the rest of that stream.
    pub(super) left: bool,
}

impl Carried {
    pub(super) fn new(begin: Mark) -> Self {
        Self {
            events: ThinVec::new(),
            begin,
            end: None,
        }
    }

    /// The size in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.events
            .iter()
            .map(|unread| unread.event.bytes.len())
            .sum()
    }

    /// How many events of this stream a browser that sends `named` has read; `None` if that is not of this stream.
    fn read_by(&self, named: LastEventId) -> Option<usize> {
        match named {
            LastEventId::Mark(mark) if mark == self.begin => Some(0),
            LastEventId::Mark(mark) if Some(mark) == self.end => Some(self.events.len()),
            LastEventId::Mark(_) => None,
            LastEventId::Row(id) => {
                let is_it = |unread: &Unread| unread.event.named() == Some(id);
                Some(self.events.iter().rposition(is_it)? + 1)
            }
        }
    }
}

/// What a browser that sends `named` as its `Last-Event-ID` has read of `streams`, oldest first; `None` if that is of none of them.
///
/// A mark belongs to one stream. A row may belong to several: an event that was not read in time is written again. Another tab may
/// also name a row that it read before the daemon was killed. So a row counts for the newest stream that it is the last of, and
/// proves nothing about the rest of that stream.
pub(super) fn read_by<'a>(
    streams: impl Iterator<Item = &'a Carried>,
    named: LastEventId,
) -> Option<Named> {
    let candidates = (streams.enumerate()).filter_map(|(index, carried)| {
        let count = carried.read_by(named)?;
        Some((count == carried.events.len(), index, carried, count))
    });
    let (_, index, carried, count) = candidates.max_by_key(|(all, index, ..)| (*all, *index))?;
    Some(Named {
        read: carried.events.iter().take(count).cloned().collect(),
        index,
        left: matches!(named, LastEventId::Mark(_)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Content, Rendered};
    use crate::model::ids::{HistoryId, IncidentId};

    /// Events of these rows.
    fn events<const N: usize>(rows: [i64; N]) -> [Arc<Event>; N] {
        let rendered = Rendered::new(&Content {
            time_ms: 0,
            incident_id: IncidentId(1),
            severity: "crit",
            title: "title",
            message: None,
        });
        rows.map(|row| Arc::new(rendered.event(vec![HistoryId(row)], 0)))
    }

    fn carried(mark: u64, events: &[&Arc<Event>]) -> Carried {
        let mut carried = Carried::new(Mark(mark));
        carried.events.extend(events.iter().map(|event| Unread {
            event: Arc::clone(event),
            writes: 1,
        }));
        carried
    }

    fn rows(named: &Named) -> Vec<i64> {
        let named = named.read.iter().filter_map(|unread| unread.event.named());
        named.map(|id| id.0).collect()
    }

    #[test]
    fn a_mark_belongs_to_one_stream() {
        let [one, two] = events([1, 2]);
        let streams = [carried(8, &[&one, &two]), carried(9, &[&two])];
        for (mark, index) in [(8, 0), (9, 1)] {
            let named = read_by(streams.iter(), LastEventId::Mark(Mark(mark)));
            let named = named.expect("a stream begins with it");
            assert_eq!((rows(&named), named.index), (vec![], index));
            assert!(named.left);
        }
        assert!(read_by(streams.iter(), LastEventId::Mark(Mark(7))).is_none());
    }

    #[test]
    fn a_row_counts_for_the_newest_stream_that_it_is_the_last_of() {
        let [one, two, three] = events([1, 2, 3]);
        for (streams, read, index) in [
            ([vec![&one, &two, &three], vec![]], &[1, 2][..], 0),
            ([vec![&one, &two], vec![&two, &three]], &[1, 2], 0),
            ([vec![&two], vec![&two, &three]], &[2], 0),
            ([vec![&two, &three], vec![&one, &two]], &[1, 2], 1),
            ([vec![&one, &two], vec![&three, &two]], &[3, 2], 1),
            ([vec![&two, &one], vec![&two, &three]], &[2], 1),
        ] {
            let streams = streams.map(|events| carried(8, &events));
            let named = read_by(streams.iter(), LastEventId::Row(HistoryId(2)));
            let named = named.expect("it was carried");
            assert_eq!((rows(&named), named.index), (read.to_vec(), index));
            assert!(!named.left);
        }
        let streams = [carried(8, &[&one])];
        assert!(read_by(streams.iter(), LastEventId::Row(HistoryId(2))).is_none());
    }
}
