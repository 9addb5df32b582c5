//! A Redis that would lose or mix our queue keys is refused at the start, with the setting and the command; a flush gives the prefix back.

use product_tests::servers::{self, RedisDb, RedisOptions};
use uuid::Uuid;
use workflows::queue::{Queue, QueueError, RedisQueue, ServerCheckError};

fn queue(server: &RedisDb, prefix: &str) -> RedisQueue {
    RedisQueue::new(&server.url(), prefix).unwrap()
}

async fn config_set(server: &RedisDb, name: &str, value: &str) {
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut server.connection().await).await.unwrap();
}

async fn standing(server: &RedisDb) -> Option<String> {
    redis::cmd("GET").arg("ours:installation").query_async(&mut server.connection().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_throws_keys_away_is_refused() {
    let Some(server) = servers::redis().await else { return };
    let (ours, queue) = (Uuid::new_v4(), queue(&server, "ours"));
    queue.check_server(ours).await.unwrap();
    config_set(&server, "maxmemory-policy", "allkeys-lru").await;
    config_set(&server, "appendonly", "no").await;
    queue.check_server(ours).await.expect("without a limit it is only warned of");
    config_set(&server, "maxmemory", "104857600").await;
    let refusal = queue.check_server(ours).await.unwrap_err();
    assert!(refusal.is_refusal(), "{refusal}");
    let text = refusal.to_string();
    for word in ["allkeys-lru", "CONFIG SET maxmemory-policy noeviction", "104857600", &server.port().to_string()] {
        assert!(text.contains(word), "{word}: {text}");
    }
    config_set(&server, "maxmemory-policy", "noeviction").await;
    queue.check_server(ours).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_do_not_share_a_prefix() {
    let Some(server) = servers::redis().await else { return };
    let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    let (mine, other) = (queue(&server, "ours"), queue(&server, "ours"));
    mine.check_server(ours).await.unwrap();
    mine.check_server(ours).await.expect("every role of one installation may start");
    let refusal = other.check_server(theirs).await.unwrap_err();
    assert!(matches!(&refusal, ServerCheckError::Foreign { theirs, .. } if *theirs == ours.to_string()), "{refusal}");
    assert!(refusal.to_string().contains("RETAINAI_REDIS_PREFIX"), "{refusal}");
    queue(&server, "theirs").check_server(theirs).await.expect("another prefix is free");
    // After a flush the running role takes its prefix back by itself.
    server.flush_all().await;
    mine.incarnation().await.unwrap();
    assert_eq!(standing(&server).await, Some(ours.to_string()));
    // Were another one quicker, ours would stop pushing and say why.
    server.flush_all().await;
    queue(&server, "ours").check_server(theirs).await.unwrap();
    let error = mine.incarnation().await.unwrap_err();
    assert!(matches!(&error, QueueError::Redis { why, .. } if why.contains(&theirs.to_string())), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_user_may_not_ask_is_asked_otherwise_or_left() {
    let Some(server) = servers::redis_with(&RedisOptions::default()).await else { return };
    let user = |name: &'static str, rules: &'static [&'static str]| {
        let (server, ours) = (&server, Uuid::new_v4());
        async move {
            redis::cmd("ACL")
                .arg("SETUSER")
                .arg(name)
                .arg(&["on", ">pw", "~*", "&*", "+@all"])
                .arg(rules)
                .exec_async(&mut server.connection().await)
                .await
                .unwrap();
            let url = format!("redis://{name}:pw@127.0.0.1:{}", server.port());
            RedisQueue::new(&url, name).unwrap().check_server(ours).await
        }
    };
    config_set(&server, "maxmemory-policy", "volatile-lru").await;
    config_set(&server, "maxmemory", "104857600").await;
    for rules in [("noconfig", &["-config"][..]), ("noinfo", &["-info"][..])] {
        let refusal = user(rules.0, rules.1).await.unwrap_err();
        assert!(matches!(refusal, ServerCheckError::Evicts { .. }), "{}: {refusal}", rules.0);
    }
    user("neither", &["-info", "-config"]).await.expect("it cannot be known, which is only warned of");
}
