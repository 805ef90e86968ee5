//! One run: services, clients, and what is done to them while the load goes on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::arm::{Arm, Client, Extras, Guard};
use crate::load::{self, Load, Record};
use crate::series::Series;
use crate::service::{Service, Trouble};

/// Client processes that share the load, each with its own budget, breakers and connections.
const CLIENTS: usize = 8;

pub(crate) struct Stage {
    pub(crate) services: Vec<Service>,
    pub(crate) clients: Vec<Client>,
    /// What the clients' transports were asked to send.
    pub(crate) attempts: Series,
    pub(crate) base: Instant,
}

/// What a stage is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) arm: Arm,
    pub(crate) endpoints: usize,
    pub(crate) clients: usize,
    pub(crate) extras: Extras,
    /// The hot key's requests are worked on one at a time.
    pub(crate) hot_lock: bool,
}

impl Plan {
    pub(crate) fn new(arm: Arm) -> Self {
        Self { arm, endpoints: 1, clients: CLIENTS, extras: Extras::default(), hot_lock: false }
    }
}

/// What is done to the services, and when, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Trouble { at: f64, endpoint: usize, trouble: Trouble },
    Takes { at: f64, endpoint: usize, work: Duration },
}

impl Stage {
    pub(crate) async fn build(plan: Plan) -> anyhow::Result<Self> {
        let base = Instant::now();
        let attempts = Series::new(base);
        let mut services = Vec::new();
        for _ in 0..plan.endpoints {
            services.push(Service::start(Guard(plan.arm, plan.extras), base, plan.hot_lock).await?);
        }
        let clients = (0..plan.clients)
            .map(|n| Client::new(plan.arm, plan.extras, &attempts, n as u64))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { services, clients, attempts, base })
    }

    /// Runs the load and the events, which are in the order of their times.
    pub(crate) async fn run(&self, load: &Load, events: &[Event]) -> anyhow::Result<Vec<Record>> {
        let script = async {
            for event in events {
                let (Event::Trouble { at, .. } | Event::Takes { at, .. }) = event;
                sleep_until(self.base + Duration::from_secs_f64(*at)).await;
                match *event {
                    Event::Trouble { endpoint, trouble, .. } => {
                        self.services[endpoint].suffers(trouble).await?;
                    }
                    Event::Takes { endpoint, work, .. } => self.services[endpoint].takes(work),
                }
            }
            anyhow::Ok(())
        };
        let (records, script) = tokio::join!(load::run(load, self), script);
        script?;
        Ok(records)
    }

    /// Requests that reached the services.
    pub(crate) fn arrivals(&self, from: f64, to: f64) -> f64 {
        self.services.iter().map(|service| service.state.arrivals.between(from, to)).sum()
    }

    /// Work begun, and how much of it after its caller had given it up.
    pub(crate) fn begun(&self) -> (u64, u64) {
        self.services.iter().fold((0, 0), |(begun, late), service| {
            let state = &service.state;
            (begun + state.begun.load(Ordering::Relaxed), late + state.begun_late.load(Ordering::Relaxed))
        })
    }
}
