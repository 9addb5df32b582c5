//! How many messages this process may put into each queue by itself until its reconciler looks again. A step that is slower than the one before it
//! fills its queue to its slice and no further; what has no room waits in the ledger, and whatever waits there comes first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The room of a queue of which nothing is known yet.
const AT_FIRST: i64 = 16;

/// The room in each queue.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<BTreeMap<String, Lane>>);

#[derive(Debug, Clone, Copy)]
struct Lane {
    room: Room,
    /// Places taken since the look began that has not ended yet: it may not have counted them.
    taken: i64,
}

impl Lane {
    const AT_FIRST: Lane = Lane { room: Room::Left(AT_FIRST), taken: 0 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// So many more.
    Left(i64),
    /// None until the next look, also when messages are taken meanwhile: older ones wait in the ledger.
    Shut,
}

/// Whether a message may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    /// It may.
    Yes,
    /// It may not, and it is the first since the last look: there should be another one.
    NotAnyMore,
    /// It may not.
    No,
}

impl Lanes {
    /// A look begins: what is taken from now on may be missing in what it counts.
    pub(crate) fn look(&self) {
        self.lock().values_mut().for_each(|lane| lane.taken = 0);
    }

    /// What a look has found: the room that is left in a queue. Where there is none, older messages may wait in the ledger.
    pub(crate) fn found(&self, queue: &str, room: i64) {
        let mut lanes = self.lock();
        let lane = lanes.entry(queue.to_owned()).or_insert(Lane::AT_FIRST);
        let room = room - lane.taken;
        lane.room = if room > 0 { Room::Left(room) } else { Room::Shut };
    }

    /// Takes a place in a queue.
    pub(crate) fn take(&self, queue: &str) -> Go {
        let mut lanes = self.lock();
        let lane = lanes.entry(queue.to_owned()).or_insert(Lane::AT_FIRST);
        match lane.room {
            Room::Left(left) if left > 0 => {
                lane.room = Room::Left(left - 1);
                lane.taken += 1;
                Go::Yes
            }
            Room::Left(_) => {
                lane.room = Room::Shut;
                Go::NotAnyMore
            }
            Room::Shut => Go::No,
        }
    }

    /// This process has taken a message out of a queue.
    pub(crate) fn taken_out(&self, queue: &str) {
        if let Some(Lane { room: Room::Left(left), .. }) = self.lock().get_mut(queue) {
            *left += 1;
        }
    }

    /// The places left in a queue.
    pub(crate) fn left(&self, queue: &str) -> i64 {
        match self.lock().get(queue).unwrap_or(&Lane::AT_FIRST).room {
            Room::Left(left) => left,
            Room::Shut => 0,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_while_a_look_counts_is_not_sent_twice_over() {
        let lanes = Lanes::default();
        lanes.found("cache", 8);
        assert_eq!(lanes.take("cache"), Go::Yes);
        lanes.look();
        assert_eq!([lanes.take("cache"), lanes.take("cache")], [Go::Yes, Go::Yes]);
        // It counted three free places before the two were taken.
        lanes.found("cache", 3);
        assert_eq!(lanes.left("cache"), 1);
        lanes.look();
        lanes.found("cache", 3);
        assert_eq!(lanes.left("cache"), 3);
    }

    #[test]
    fn a_full_queue_is_shut_until_the_next_look() {
        let lanes = Lanes::default();
        lanes.found("cache", 2);
        assert_eq!([lanes.take("cache"), lanes.take("cache")], [Go::Yes, Go::Yes]);
        lanes.taken_out("cache");
        assert_eq!([lanes.take("cache"), lanes.take("cache")], [Go::Yes, Go::NotAnyMore]);
        lanes.taken_out("cache");
        assert_eq!(lanes.take("cache"), Go::No, "older ones wait in the ledger by now");
        lanes.look();
        lanes.found("cache", 1);
        assert_eq!(lanes.take("cache"), Go::Yes);
        lanes.look();
        lanes.found("cache", 0);
        assert_eq!((lanes.take("cache"), lanes.left("cache")), (Go::No, 0));
        assert_eq!(lanes.left("archive"), AT_FIRST);
    }
}
