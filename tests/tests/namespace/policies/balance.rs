//! `loadBalancer`: where requests go. What is drawn at random fails a good daemon about as often as the comment beside it says.

use anyhow::{Result, ensure};
use mesh_tests::shop::Shop;
use serde_json::json;

use super::{WELL, counted, crowd, get, obey, sequence, tally};
use crate::{all_answered, captured};

#[test]
fn round_robin_and_random_spread_evenly_each_in_its_way() {
    captured(|shop| {
        obey(shop, &["loadBalancer: {type: RoundRobin}"])?;
        let turns = sequence(shop, &get(), 30)?;
        ensure!(tally(&turns).values().all(|count| *count == 10), "{turns:?}");
        ensure!(
            turns.windows(3).all(|turn| turn[0] != turn[1] && turn[0] != turn[2]),
            "{turns:?}"
        );
        obey(shop, &["loadBalancer: {type: Random}"])?;
        let drawn = sequence(shop, &get(), 450)?;
        // each count is binomial of 450 and 1/3: mean 150, deviation 10; one outside of 60 is 2e-9
        ensure!(
            tally(&drawn).values().all(|count| count.abs_diff(150) <= 60),
            "{:?}",
            tally(&drawn)
        );
        // none in a row: (2/3)^449, below 1e-79
        ensure!(drawn.windows(2).any(|two| two[0] == two[1]), "that is no chance");
        ensure!(tally(&drawn).len() == 3, "{:?}", tally(&drawn));
        Ok(())
    });
}

#[test]
fn weighted_round_robin_goes_by_the_pods_annotation() {
    captured(|shop| {
        for (name, weight) in [("web-1", "1"), ("web-2", "3"), ("web-3", "6")] {
            weigh(shop, name, Some(weight))?;
        }
        obey(shop, &["loadBalancer: {type: WeightedRoundRobin}"])?;
        let turns = sequence(shop, &get(), 100)?;
        let counts: Vec<_> = tally(&turns).into_values().collect();
        ensure!(counts == [10, 30, 60], "{:?}", tally(&turns));
        // what is no weight counts as 1, and so does none
        weigh(shop, "web-2", Some("1001"))?;
        weigh(shop, "web-3", None)?;
        obey(
            shop,
            &[
                "loadBalancer: {type: WeightedRoundRobin}",
                "limits: {maxRequests: 1000}",
            ],
        )?;
        let turns = sequence(shop, &get(), 30)?;
        ensure!(tally(&turns).values().all(|count| *count == 10), "{:?}", tally(&turns));
        Ok(())
    });
}

/// Says how much weight a server's pod has.
fn weigh(shop: &Shop, name: &str, weight: Option<&str>) -> Result<()> {
    let mut manifest = shop.pod_manifest(&shop.server(name)?.pod);
    "web".clone_into(&mut manifest.app);
    let annotation = |weight: &str| ("weft.mesh/weight".to_owned(), weight.to_owned());
    manifest.annotations = weight.map(annotation).into_iter().collect();
    shop.objects.pod(&manifest)
}

/// Requests under way at the same time.
const CROWD: u64 = 6;

/// A server that takes 300 ms gets a third of round robin's requests; by those who look at the load, one while the others serve hundreds. No timing: slower
/// machines make all of them slower.
#[test]
fn a_slow_server_gets_less_where_the_load_counts() {
    captured(|shop| {
        shop.behave("web-2", &json!({"delay_ms": 300}))?;
        for kind in ["LeastRequest", "PowerOfTwoChoices", "PeakEwma"] {
            obey(shop, &[&format!("loadBalancer: {{type: {kind}}}")])?;
            let (tally, counts) = counted(shop, || crowd(shop, 300, CROWD))?;
            all_answered(&tally)?;
            ensure!(counts["web-2"] < 50, "{kind}: more than half of its share: {counts:?}");
            ensure!(counts["web-1"] > 50 && counts["web-3"] > 50, "{kind}: {counts:?}");
        }
        // one at a time there is no load to look at, but for how long an endpoint takes
        let (_, counts) = counted(shop, || sequence(shop, &get(), 60))?;
        ensure!(counts["web-2"] < 10, "PeakEwma: {counts:?}");
        obey(shop, &["loadBalancer: {type: RoundRobin}"])?;
        let (_, counts) = counted(shop, || crowd(shop, 30, CROWD))?;
        ensure!(counts["web-2"] >= 9, "it is the policy that avoids it: {counts:?}");
        shop.behave("web-2", &WELL())
    });
}

/// To break off at once is not to be fast.
#[test]
fn a_server_that_resets_draws_no_requests_by_latency() {
    captured(|shop| {
        obey(shop, &["loadBalancer: {type: PeakEwma}"])?;
        shop.behave("web-2", &json!({"reset": true}))?;
        let answers = sequence(shop, &get(), 60)?;
        let failed = answers.iter().filter(|who| who.starts_with("502")).count();
        ensure!((1..10).contains(&failed), "{:?}", tally(&answers));
        Ok(())
    });
}
