//! Whose a Landlock domain is.
//!
//! Theory of operation. A record of a refusal names the domain by a number of the kernel's; whose it is
//! comes once, in a record after the domain's first refusal. Each compartment makes that happen at its
//! start: it tries to open a file that must not open. So the owner of every domain is known before its
//! program runs, unless nobody listened then.

use std::collections::{BTreeMap, VecDeque};

use super::denial::{Denial, Refusal};
use super::record::Record;

/// What a start tries to open in a private root; no policy has such a file.
const CANARY: &str = "/.canary";
/// The same without one. A program can try that as well, so only the first is a start's.
const CANARY_OF_THE_MACHINE: &str = "/";
/// Domains that are remembered of one uid, whose oldest goes first: any process of the machine can make some,
/// and one whose own it makes forgotten harms no other.
const MOST_OF_ONE: usize = 32;
/// The same of all uids together, where the oldest of the uid that has the most goes first.
const MOST: usize = 1024;
/// Refusals whose domain's owner is not told yet.
const MOST_WAITING: usize = 64;

/// The owners of domains, as far as they were told.
#[derive(Debug, Default)]
pub struct Domains {
    owners: VecDeque<(u64, u32)>,
    waiting: VecDeque<(u64, Refusal)>,
}

impl Domains {
    /// Whether refusals by a domain of that uid's can be told.
    pub fn knows(&self, uid: u32) -> bool {
        self.owners.iter().any(|&(_, owner)| owner == uid)
    }

    /// The refusals that a record makes known.
    pub(super) fn join(&mut self, record: Record) -> Vec<Denial> {
        match record {
            Record::Call(denial) => vec![denial],
            Record::Access { refusal, .. } if refusal.is_on(CANARY) => Vec::new(),
            Record::Access { domain, refusal } => {
                if let Some(uid) = self.owner(domain) {
                    return vec![Denial { uid, refusal }];
                }
                push(&mut self.waiting, MOST_WAITING, (domain, refusal));
                Vec::new()
            }
            Record::Domain { domain, uid } => {
                self.owners.retain(|&(known, _)| known != domain);
                self.make_room(uid);
                self.owners.push_back((domain, uid));
                let (of_it, others) =
                    self.waiting.drain(..).partition(|&(waiting, _)| waiting == domain);
                self.waiting = others;
                let mut of_it: VecDeque<(u64, Refusal)> = of_it;
                if of_it.front().is_some_and(|(_, first)| first.is_on(CANARY_OF_THE_MACHINE)) {
                    of_it.pop_front();
                }
                of_it.into_iter().map(|(_, refusal)| Denial { uid, refusal }).collect()
            }
            Record::DomainGone { domain } => {
                self.owners.retain(|&(known, _)| known != domain);
                self.waiting.retain(|&(waiting, _)| waiting != domain);
                Vec::new()
            }
        }
    }

    /// For one more of that uid's.
    fn make_room(&mut self, uid: u32) {
        let mut counts = BTreeMap::<u32, usize>::new();
        for &(_, owner) in &self.owners {
            *counts.entry(owner).or_default() += 1;
        }
        let from = if counts.get(&uid).is_some_and(|&count| count >= MOST_OF_ONE) {
            Some(uid)
        } else if self.owners.len() >= MOST {
            counts.into_iter().max_by_key(|&(_, count)| count).map(|(most, _)| most)
        } else {
            None
        };
        let oldest = self.owners.iter().position(|&(_, owner)| Some(owner) == from);
        oldest.map(|at| self.owners.remove(at));
    }

    fn owner(&self, domain: u64) -> Option<u32> {
        // The newest are asked for most.
        self.owners.iter().rev().find(|&&(known, _)| known == domain).map(|&(_, uid)| uid)
    }
}

fn push<T>(queue: &mut VecDeque<T>, most: usize, item: T) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::super::denial::Object;
    use super::*;

    fn refusal(path: &str) -> Refusal {
        let object = Some(Object::Path(path.into()));
        Refusal::Landlock { access: "fs.read_file".to_owned(), object }
    }

    fn access(domain: u64, path: &str) -> Record {
        Record::Access { domain, refusal: refusal(path) }
    }

    #[test]
    fn a_refusal_is_of_the_uid_that_made_its_domain() {
        let mut domains = Domains::default();
        assert_eq!(domains.join(access(1, "/a")), []);
        assert_eq!(domains.join(access(2, "/other")), []);
        let told = domains.join(Record::Domain { domain: 1, uid: 7 });
        assert_eq!(told, [Denial { uid: 7, refusal: refusal("/a") }]);
        assert_eq!(
            domains.join(access(1, "/b")),
            [Denial { uid: 7, refusal: refusal("/b") }],
            "the owner is told once"
        );
        assert!(domains.knows(7) && !domains.knows(8));
        assert_eq!(domains.join(Record::DomainGone { domain: 1 }), []);
        assert!(!domains.knows(7));
        assert_eq!(domains.join(access(1, "/c")), []);
    }

    #[test]
    fn the_attempt_of_a_start_tells_the_owner_and_nothing_else() {
        let mut domains = Domains::default();
        assert_eq!(domains.join(access(1, "/.canary")), []);
        assert_eq!(domains.join(Record::Domain { domain: 1, uid: 7 }), []);
        assert!(domains.knows(7));
    }

    #[test]
    fn without_a_private_root_only_the_first_attempt_is_the_starts() {
        let mut domains = Domains::default();
        assert_eq!(domains.join(access(1, "/")), []);
        assert_eq!(domains.join(Record::Domain { domain: 1, uid: 7 }), []);
        assert_eq!(domains.join(access(1, "/")).len(), 1);
    }

    #[test]
    fn the_canary_is_that_of_the_root() {
        assert_eq!(CANARY.as_bytes(), crate::root::CANARY.to_bytes());
    }

    #[test]
    fn a_flood_of_domains_costs_bounded_memory() {
        let mut domains = Domains::default();
        for domain in 0..2 * MOST as u64 {
            domains.join(access(domain + 1_000_000, "/a"));
            domains.join(Record::Domain { domain, uid: domain as u32 });
        }
        assert_eq!(domains.owners.len(), MOST);
        assert_eq!(domains.waiting.len(), MOST_WAITING);
    }

    #[test]
    fn a_flood_of_one_uids_domains_makes_no_others_forgotten() {
        let mut domains = Domains::default();
        domains.join(Record::Domain { domain: 1, uid: 7 });
        for domain in 0..2 * MOST as u64 {
            domains.join(Record::Domain { domain: 1000 + domain, uid: 8 });
        }
        assert!(domains.knows(7));
        assert_eq!(domains.owners.len(), 1 + MOST_OF_ONE);
        assert_eq!(domains.owners[1], (1000 + (2 * MOST - MOST_OF_ONE) as u64, 8), "the oldest go");
    }

    #[test]
    fn where_there_is_no_room_the_uid_that_has_the_most_yields() {
        let mut domains = Domains::default();
        domains.join(Record::Domain { domain: 1, uid: 7 });
        for number in 0..MOST as u64 - 1 {
            let uid = 100 + (number / MOST_OF_ONE as u64) as u32;
            domains.join(Record::Domain { domain: 1000 + number, uid });
        }
        assert_eq!(domains.owners.len(), MOST);
        domains.join(Record::Domain { domain: 2, uid: 9 });
        assert_eq!(domains.owners.len(), MOST);
        assert!(domains.knows(7) && domains.knows(9));
    }
}
