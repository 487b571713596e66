//! The policy on traces, against LRU.

use super::*;
use std::collections::HashMap;

/// A cache of unit-sized items under the policy, as the page store drives it.
#[derive(Default)]
struct Cache {
    policy: S3Fifo,
    entries: HashMap<u64, (Queue, u8)>,
    capacity: usize,
    hits: u64,
}

impl Cache {
    fn new(capacity: usize) -> Cache {
        Cache { capacity, ..Cache::default() }
    }

    fn read(&mut self, key: u64) {
        if let Some((_, frequency)) = self.entries.get_mut(&key) {
            *frequency = (*frequency + 1).min(FREQUENCY_MAX);
            self.hits += 1;
            return;
        }
        while self.entries.len() >= self.capacity {
            self.evict();
        }
        let queue = self.policy.queue_for(fingerprint(key));
        self.entries.insert(key, (queue, 0));
        self.policy.push(queue, key);
    }

    fn evict(&mut self) {
        let small = self.entries.values().filter(|e| e.0 == Queue::Small).count();
        let (queue, key) = self.policy.pop(small as u64, self.entries.len() as u64).unwrap();
        let entry = self.entries.get_mut(&key).unwrap();
        match judge(queue, entry.1) {
            Verdict::Keep(frequency) => {
                *entry = (Queue::Main, frequency);
                self.policy.push(Queue::Main, key);
            }
            Verdict::Evict => {
                self.entries.remove(&key);
                self.policy.evicted(queue, fingerprint(key));
            }
        }
    }
}

fn fingerprint(key: u64) -> u32 {
    crate::hash::of_bytes(&key.to_le_bytes()) as u32
}

fn lru_hits(trace: &[u64], capacity: usize) -> u64 {
    let (mut last_use, mut order, mut hits) = (HashMap::new(), std::collections::BTreeMap::new(), 0);
    for (now, key) in trace.iter().enumerate() {
        if let Some(before) = last_use.insert(*key, now) {
            order.remove(&before);
            hits += 1;
        } else if last_use.len() > capacity {
            let (_, oldest) = order.pop_first().unwrap();
            last_use.remove(&oldest);
        }
        order.insert(now, *key);
    }
    hits
}

fn s3fifo_hits(trace: &[u64], capacity: usize) -> u64 {
    let mut cache = Cache::new(capacity);
    trace.iter().for_each(|key| cache.read(*key));
    cache.hits
}

/// Numbers in 0..1 from a seed (splitmix64).
fn numbers(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn a_scan_does_not_push_out_the_working_set() {
    // 80 items read over and over; between the rounds a scan of 200 items that never come back. The cache holds 100.
    let mut trace = Vec::new();
    for round in 0..50u64 {
        trace.extend((0..80).chain(0..80));
        trace.extend((0..200).map(|i| 1_000 + round * 200 + i));
    }
    let (ours, lru) = (s3fifo_hits(&trace, 100), lru_hits(&trace, 100));
    // LRU loses all 80 to each scan: only the second pass of a round hits.
    assert_eq!(lru, 50 * 80);
    assert!(ours > 49 * 160 * 95 / 100, "{ours} hits");
}

#[test]
fn a_skewed_trace_hits_more_than_under_lru() {
    // Zipf-like popularity over 10,000 items with one-hit wonders in between, cache of 500.
    let (mut random, mut trace) = (numbers(7), Vec::new());
    for i in 0..200_000u64 {
        trace.push(match random() < 0.3 {
            true => 1_000_000 + i,
            false => (10_000f64.powf(random()) - 1.0) as u64,
        });
    }
    let (ours, lru) = (s3fifo_hits(&trace, 500), lru_hits(&trace, 500));
    assert!(ours as f64 > lru as f64 * 1.05, "S3-FIFO {ours}, LRU {lru}");
}

#[test]
fn compacting_keeps_the_live_in_order() {
    let mut policy = S3Fifo::default();
    (0..2_000).for_each(|handle| policy.push(Queue::Small, handle));
    policy.compact(|handle| handle % 100 == 0);
    assert_eq!(policy.len(), 20);
    let left: Vec<u64> = std::iter::from_fn(|| policy.pop(1, 1).map(|(_, handle)| handle)).collect();
    assert_eq!(left, (0..20).map(|i| i * 100).collect::<Vec<_>>());
}
