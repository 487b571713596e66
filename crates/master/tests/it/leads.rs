//! Three masters in this process, of which one leads and cannot serve.

use crate::support::{Home, eventually};
use forebay_master::{Master, RunningMaster, fault};
use forebay_proto::v1::masters_client::MastersClient;
use forebay_proto::v1::namespace_client::NamespaceClient;
use forebay_proto::v1::{ListMastersRequest, StatRequest, TransferLeadRequest};
use forebay_testkit::port::Port;
use futures::future::{join_all, select_all};
use tonic::transport::Channel;

fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// Whether that one serves clients.
async fn serves(address: &str) -> bool {
    let stat = StatRequest { path: "/".into(), ..StatRequest::default() };
    NamespaceClient::new(channel(address)).stat(stat).await.is_ok()
}

async fn leads(address: &str) -> bool {
    MastersClient::new(channel(address)).list_masters(ListMastersRequest::default()).await.is_ok()
}

async fn start(home: &Home, ports: &[Port]) -> Vec<RunningMaster> {
    let addresses: Vec<String> = ports.iter().map(|port| port.address().to_string()).collect();
    let starts = ports.iter().enumerate().map(|(n, port)| {
        let mut settings = home.settings();
        settings.data_dir = home.dir.path().join(n.to_string());
        settings.listen = port.address();
        settings.advertise = port.address().to_string();
        settings.masters = addresses.clone();
        Master::start(settings)
    });
    join_all(starts).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_leader_that_cannot_serve_gives_its_lead_away() {
    let home = Home::new();
    let ports: Vec<Port> = (0..3).map(|_| Port::reserve().unwrap()).collect();
    let masters = start(&home, &ports).await;
    let addresses: Vec<String> = ports.iter().map(|port| port.address().to_string()).collect();
    let mut first = None;
    eventually("the first leader", async || {
        for (n, address) in addresses.iter().enumerate() {
            first = first.or(serves(address).await.then_some(n));
        }
        first.is_some()
    })
    .await;
    let first = first.unwrap();
    let broken = &addresses[(first + 1) % 3];
    // As with a state that cannot be read.
    fault::plant(Box::leak(format!("lead: {broken}").into_boxed_str()));
    let transfer = TransferLeadRequest { address: broken.clone() };
    MastersClient::new(channel(&addresses[first])).transfer_lead(transfer).await.unwrap();
    assert!(leads(broken).await && !serves(broken).await);
    eventually("another one to serve", async || {
        for address in addresses.iter().filter(|address| *address != broken) {
            if serves(address).await {
                return true;
            }
        }
        false
    })
    .await;
    let failed = select_all(masters.iter().map(|master| Box::pin(master.failed())));
    assert!(futures::FutureExt::now_or_never(failed).is_none(), "one has ended");
    join_all(masters.into_iter().map(RunningMaster::shutdown)).await;
}
