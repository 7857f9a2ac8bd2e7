//! What is queued and what runs, by tenant and lane, and which job is next.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{HELD_NS, Job, LONG_JOB_NS, LaneId, TenantId, UNKNOWN_NS};
use crate::pipeline::quotas::{Quotas, TenantQuota};

#[derive(Default)]
pub(super) struct Lane {
    pub(super) jobs: VecDeque<Job>,
    /// Jobs on threads.
    pub(super) running: usize,
    /// Nanoseconds of CPU that this lane has used, moved up to the clock of its share when it wakes.
    pub(super) spent_ns: u64,
}

impl Lane {
    fn may_run(&self, most: usize) -> bool {
        !self.jobs.is_empty() && self.running < most
    }
}

/// What a tenant has queued and used.
pub(super) struct Share {
    pub(super) quota: Arc<TenantQuota>,
    pub(super) lanes: HashMap<LaneId, Lane>,
    /// Jobs in all lanes.
    pub(super) queued: usize,
    /// Nanoseconds of CPU, moved up to the clock of the queues when it wakes.
    pub(super) spent_ns: u64,
    /// What the lane had used whose job was taken last: where one that wakes begins.
    pub(super) clock_ns: u64,
    /// CPU time of its longest job of late; nothing while none has come back.
    pub(super) longest_ns: Option<u64>,
    /// Jobs on threads.
    pub(super) running: usize,
}

impl Share {
    pub(super) fn new(quota: Arc<TenantQuota>) -> Share {
        Share {
            quota,
            lanes: HashMap::new(),
            queued: 0,
            spent_ns: 0,
            clock_ns: 0,
            longest_ns: None,
            running: 0,
        }
    }

    pub(super) fn is_slow(&self) -> bool {
        self.longest_ns.is_some_and(|longest_ns| longest_ns > LONG_JOB_NS)
    }

    /// So long was its longest job, at least.
    pub(super) fn was_held(&mut self, ns: u64) {
        self.longest_ns = Some(self.longest_ns.map_or(ns, |longest_ns| longest_ns.max(ns)));
    }

    /// Jobs of one lane that may run at a time. Alone, one more: but a thread is free for who comes next.
    fn of_lane(&self, lane_max: usize) -> usize {
        lane_max.saturating_add(usize::from(self.lanes.len() < 2))
    }

    pub(super) fn has_next(&self, lane_max: usize) -> bool {
        let lane_max = self.of_lane(lane_max);
        self.lanes.values().any(|lane| lane.may_run(lane_max))
    }

    pub(super) fn next(&mut self, lane_max: usize) -> Option<(LaneId, Job)> {
        let lane_max = self.of_lane(lane_max);
        let waiting = self.lanes.iter_mut().filter(|(_, lane)| lane.may_run(lane_max));
        let (id, lane) = waiting.min_by_key(|(_, lane)| lane.spent_ns)?;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        self.clock_ns = self.clock_ns.max(lane.spent_ns);
        self.queued -= 1;
        self.running += 1;
        Some((*id, job))
    }
}

/// A thread is at it.
pub(super) struct Running {
    /// Which job it is.
    pub(super) ticket: u64,
    pub(super) tenant: TenantId,
    pub(super) since_ns: u64,
    /// Its tenant's jobs took long when it was taken.
    pub(super) slow: bool,
    /// None of its tenant's had come back then.
    pub(super) first: bool,
}

impl Running {
    pub(super) fn is_past(&self, ns: u64, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= ns
    }

    pub(super) fn is_slow(&self, now_ns: u64) -> bool {
        self.slow || self.is_past(LONG_JOB_NS, now_ns)
    }
}

/// A job on its way.
pub(super) struct Taken {
    pub(super) tenant: TenantId,
    pub(super) quota: Arc<TenantQuota>,
    pub(super) lane: LaneId,
    pub(super) ticket: u64,
    pub(super) job: Job,
}

/// What a thread is to do.
pub(super) enum Next {
    Run(Taken),
    /// Nothing; at the latest after this time some tenant may run again.
    Wait(Option<Duration>),
}

pub(super) struct Queues {
    pub(super) quotas: Arc<Quotas>,
    pub(super) shares: HashMap<TenantId, Share>,
    /// Tenants with queued jobs, by what they have used.
    pub(super) ready: BTreeSet<(u64, TenantId)>,
    /// What the tenant had used whose job was taken last: where one that wakes begins.
    pub(super) clock_ns: u64,
    /// Whose each lane is.
    pub(super) owners: HashMap<LaneId, TenantId>,
    /// Jobs that may run at a time, without those that have held their threads for long.
    pub(super) threads: usize,
    pub(super) running: Vec<Running>,
    /// Jobs that were taken.
    pub(super) tickets: u64,
    /// Threads that wait for a job.
    pub(super) idle: usize,
    /// A thread that stands by looks now and then whether it is needed.
    pub(super) watched: bool,
    /// Threads that one of several lanes may hold.
    pub(super) lane_max: usize,
    pub(super) closed: bool,
}

impl Queues {
    pub(super) fn new(threads: usize, quotas: Arc<Quotas>) -> Queues {
        Queues {
            quotas,
            shares: HashMap::new(),
            ready: BTreeSet::new(),
            clock_ns: 0,
            owners: HashMap::new(),
            threads,
            running: Vec::new(),
            tickets: 0,
            idle: 0,
            watched: false,
            lane_max: usize::MAX,
            closed: false,
        }
    }

    pub(super) fn push(&mut self, tenant: &TenantId, lane: LaneId, job: Job) {
        self.owners.entry(lane).or_insert_with(|| tenant.clone());
        let quotas = &self.quotas;
        let share = self.shares.entry(tenant.clone()).or_insert_with(|| Share::new(quotas.of(tenant)));
        if share.queued == 0 {
            // Who slept must not make up for it by starving the others.
            share.spent_ns = share.spent_ns.max(self.clock_ns);
            self.ready.insert((share.spent_ns, tenant.clone()));
        }
        let entry = share.lanes.entry(lane).or_default();
        if entry.jobs.is_empty() {
            entry.spent_ns = entry.spent_ns.max(share.clock_ns);
        }
        entry.jobs.push_back(job);
        share.queued += 1;
    }

    /// Jobs are queued, and no thread waits for one.
    pub(super) fn is_waited_for(&self) -> bool {
        self.idle == 0 && !self.ready.is_empty()
    }

    /// And none that stands by looks after them.
    pub(super) fn is_unwatched(&self) -> bool {
        self.is_waited_for() && !self.watched
    }

    /// For a thread of the pool, or for one that stands by: that is there for tenants of whom nothing runs and whose jobs
    /// take less than all that run have taken already.
    pub(super) fn next(&mut self, now_ns: u64, stands_by: bool) -> Next {
        let short = self.running.iter().filter(|job| !job.is_past(HELD_NS, now_ns)).count();
        if short >= self.threads && !self.closed {
            // Some of them may turn out to be long.
            return Next::Wait(Some(Duration::from_nanos(HELD_NS)));
        }
        // To whom else would it be left? What is queued at the end is done at once.
        let alone = self.shares.len() < 2 || self.closed;
        let slow = self.running.iter().filter(|job| job.is_slow(now_ns)).count();
        let slow_max = self.threads.saturating_sub(1).max(1);
        let held_ns = self.running.iter().map(|job| now_ns.saturating_sub(job.since_ns)).min().unwrap_or(0);
        let running = &self.running;
        let is_slow = |share: &Share, tenant: &TenantId| {
            share.is_slow() || running.iter().any(|job| job.tenant == *tenant && job.is_slow(now_ns))
        };
        let lane_max = self.lane_max;
        let mut soonest: Option<Duration> = None;
        let mut may_run = |tenant: &TenantId| {
            let Some(share) = self.shares.get(tenant) else { return false };
            if stands_by && (share.running > 0 || share.longest_ns.unwrap_or(UNKNOWN_NS) > held_ns) {
                return false;
            }
            // Its lanes hold all that they may: it is others' turn.
            if lane_max < usize::MAX && !share.has_next(lane_max) {
                return false;
            }
            let unknown = share.longest_ns.is_none() && share.running > 0;
            if !alone && (unknown || (slow >= slow_max && is_slow(share, tenant))) {
                return false;
            }
            let Some(wait) = share.quota.cpu_debt(now_ns).filter(|_| !self.closed) else { return true };
            soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
            false
        };
        let found = self.ready.iter().find(|(_, tenant)| may_run(tenant)).cloned();
        found.and_then(|found| self.take(found, now_ns)).map_or(Next::Wait(soonest), Next::Run)
    }

    pub(super) fn take(&mut self, (spent_ns, tenant): (u64, TenantId), now_ns: u64) -> Option<Taken> {
        let share = self.shares.get_mut(&tenant)?;
        let (lane, job) = share.next(self.lane_max)?;
        let (slow, first) = (share.is_slow(), share.longest_ns.is_none());
        let quota = Arc::clone(&share.quota);
        self.clock_ns = self.clock_ns.max(spent_ns);
        if share.queued == 0 {
            self.ready.remove(&(spent_ns, tenant.clone()));
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.running.push(Running { ticket, tenant: tenant.clone(), since_ns: now_ns, slow, first });
        Some(Taken { tenant, quota, lane, ticket, job })
    }

    /// Counts what a job has used. Whether another thread may find something now that it was to leave.
    pub(super) fn done(&mut self, tenant: &TenantId, lane: LaneId, ticket: u64, spent_ns: u64) -> bool {
        let place = self.running.iter().position(|job| job.ticket == ticket);
        let left =
            place.map(|place| self.running.swap_remove(place)).is_some_and(|job| job.slow || job.first);
        let Some(share) = self.shares.get_mut(tenant) else { return left };
        share.running = share.running.saturating_sub(1);
        if let Some(lane) = share.lanes.get_mut(&lane) {
            lane.spent_ns += spent_ns;
            lane.running = lane.running.saturating_sub(1);
        }
        share.longest_ns = share.longest_ns.map(|longest_ns| longest_ns / 8 * 7);
        share.was_held(spent_ns);
        let before = share.spent_ns;
        share.spent_ns += spent_ns;
        if share.queued > 0 {
            self.ready.remove(&(before, tenant.clone()));
            self.ready.insert((share.spent_ns, tenant.clone()));
        }
        left
    }

    /// So long did a job hold its thread.
    pub(super) fn held(&mut self, tenant: &TenantId, held_ns: u64) {
        if let Some(share) = self.shares.get_mut(tenant) {
            share.was_held(held_ns);
        }
    }

    /// What was queued in the lane.
    pub(super) fn retire(&mut self, lane: LaneId) -> Option<Lane> {
        let tenant = self.owners.remove(&lane)?;
        let share = self.shares.get_mut(&tenant)?;
        let removed = share.lanes.remove(&lane)?;
        share.queued -= removed.jobs.len();
        if share.queued == 0 {
            self.ready.remove(&(share.spent_ns, tenant.clone()));
        }
        if share.lanes.is_empty() {
            self.shares.remove(&tenant);
        }
        Some(removed)
    }
}
