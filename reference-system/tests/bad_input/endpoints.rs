//! Every endpoint of every role, each with a request that reaches its handler: a repetition of what was done before, a
//! question, or something that the handler itself refuses for the reason named beside it. So none of them changes a
//! thing once all were sent.

use serde_json::{Value, json};

use crate::known::Known;

/// An endpoint, and a request of it that fits.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The role in whose router it is, or `frame` for what all of them serve.
    pub(crate) role: &'static str,
    /// Who is asked.
    pub(crate) instance: String,
    pub(crate) method: &'static str,
    /// As in the router.
    pub(crate) path: &'static str,
    /// The path's variables, in their order.
    pub(crate) at: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    /// The idempotency key of the request that this one repeats.
    pub(crate) key: Option<&'static str>,
    /// How it is answered: the status, and the code of a refusal.
    pub(crate) answer: (u16, &'static str),
    /// Variables and fields that need not be there, or of which another role decides whether they make sense.
    pub(crate) takes: &'static [&'static str],
}

impl Endpoint {
    fn new(method: &'static str, path: &'static str) -> Self {
        Self {
            role: "",
            instance: String::new(),
            method,
            path,
            at: Vec::new(),
            query: Vec::new(),
            body: None,
            key: None,
            answer: (200, ""),
            takes: &[],
        }
    }

    fn at(mut self, variables: &[&str]) -> Self {
        self.at = variables.iter().map(|&variable| variable.to_owned()).collect();
        self
    }

    fn ask(mut self, query: &[(&'static str, &str)]) -> Self {
        self.query = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self
    }

    fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn key(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    fn answers(mut self, status: u16) -> Self {
        self.answer = (status, "");
        self
    }

    fn refused(mut self, status: u16, code: &'static str) -> Self {
        self.answer = (status, code);
        self
    }

    fn takes(mut self, names: &'static [&'static str]) -> Self {
        self.takes = names;
        self
    }

    fn of(mut self, instance: &str) -> Self {
        instance.clone_into(&mut self.instance);
        self
    }

    /// The names of the path's variables.
    pub(crate) fn variables(&self) -> Vec<&'static str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }
}

fn get(path: &'static str) -> Endpoint {
    Endpoint::new("GET", path)
}

fn post(path: &'static str) -> Endpoint {
    Endpoint::new("POST", path)
}

fn put(path: &'static str) -> Endpoint {
    Endpoint::new("PUT", path)
}

fn delete(path: &'static str) -> Endpoint {
    Endpoint::new("DELETE", path)
}

fn served_by(role: &'static str, mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    for one in &mut endpoints {
        one.role = role;
        if one.instance.is_empty() {
            one.instance = match role {
                "st-u" | "st-r" => format!("{role}0-1"),
                "frame" => "eus-1".to_owned(),
                role => format!("{role}-1"),
            };
        }
    }
    endpoints
}

/// Every endpoint of a system without an old table.
pub(crate) fn everywhere(known: &Known) -> Vec<Endpoint> {
    let mut all = gateway(known);
    all.extend(order_pools(known));
    all.extend(services(known));
    all.extend(stores(known));
    all.extend(registry());
    all.extend(broker());
    all.extend(onlookers(known));
    for role in ["ers", "eps", "ledger", "sms", "auditor", "eos-x"] {
        let letters = vec![get("/dead-letters"), post("/dead-letters/replay").ask(&[("limit", "1")])];
        all.extend(served_by(role, letters));
    }
    all
}

/// What clients reach.
pub(crate) fn gateway(known: &Known) -> Vec<Endpoint> {
    let Known { id, user, restaurant, refund, vorder, .. } = known;
    let (user_at, restaurant_at) = (&*user.to_string(), &*restaurant.to_string());
    let wish = json!({
        "user_id": user, "restaurant_id": restaurant, "coupon_id": null,
        "items": [{ "dish_id": restaurant * 100 + 3, "quantity": 1 }],
    });
    let goods = json!({ "user_id": user, "product": "breakfast_ticket", "quantity": 1, "promotion": null });
    served_by(
        "gw",
        vec![
            post("/quote").body(wish),
            post("/orders").body(known.basket.clone()).key(Known::ORDER_KEY).takes(&["address"]),
            get("/orders/{id}").at(&[id]),
            post("/orders/{id}/pay").at(&[id]).refused(409, "wrong_status"),
            post("/orders/{id}/cancel").at(&[id]).refused(409, "wrong_status"),
            post("/orders/{id}/delivered").at(&[id]),
            post("/orders/{id}/confirm").at(&[id]).refused(409, "wrong_status"),
            post("/courier/{id}/picked").at(&[id]),
            post("/courier/{id}/done").at(&[id]),
            post("/refunds").body(known.refund_wish()).key(Known::REFUND_KEY).takes(&["reason"]),
            get("/refunds/{refund}").at(&[refund]),
            post("/refunds/{refund}/approve").at(&[refund]),
            post("/refunds/{refund}/reject").at(&[refund]).refused(409, "wrong_state"),
            post("/refunds/{refund}/arbitrate").at(&[refund]).refused(409, "wrong_state"),
            post("/vorders").body(goods).key(Known::VORDER_KEY).takes(&["promotion"]),
            get("/vorders/{id}").at(&[vorder]),
            post("/vorders/{id}/pay").at(&[vorder]),
            post("/vorders/{id}/cancel").at(&[vorder]).refused(409, "wrong_state"),
            get("/users/{user}").at(&[user_at]),
            get("/users/{user}/orders").at(&[user_at]).ask(&[("since", "0"), ("limit", "1")]),
            get("/restaurants/{restaurant}/menu").at(&[restaurant_at]),
            get("/restaurants/{restaurant}/orders").at(&[restaurant_at]).ask(&[("state", "0"), ("limit", "1")]),
            post("/restaurants/{restaurant}/orders/{id}/accept").at(&[restaurant_at, id]).refused(409, "wrong_status"),
            post("/restaurants/{restaurant}/orders/{id}/reject").at(&[restaurant_at, id]).refused(409, "wrong_status"),
            // Of a service that is there it is answered with 500: that is what it is for.
            post("/debug/panic/{service}").at(&["nobody"]).refused(404, "not_found"),
        ],
    )
}

/// The same requests as services take them from the gateway, and what they tell each other of orders.
fn order_pools(known: &Known) -> Vec<Endpoint> {
    let Known { id, order, total, .. } = known;
    let at_gateway = gateway(known);
    let behind = |role: &'static str, paths: &[&str]| {
        let of_role = at_gateway.iter().filter(|one| paths.contains(&one.path)).cloned();
        let named: Vec<Endpoint> = of_role.map(|one| Endpoint { instance: String::new(), ..one }).collect();
        assert_eq!(named.len(), paths.len(), "{role}");
        served_by(role, named)
    };
    let callback = json!({ "payment_id": order["payment_id"], "order_id": id, "amount_fen": total, "succeeded": true });
    let mut all = behind(
        "eos-c",
        &["/orders", "/orders/{id}", "/orders/{id}/pay", "/orders/{id}/cancel", "/users/{user}/orders"],
    );
    all.extend(served_by("eos-c", vec![post("/internal/pay-callback").body(callback)]));
    all.extend(behind(
        "eos-m",
        &[
            "/restaurants/{restaurant}/orders",
            "/restaurants/{restaurant}/orders/{id}/accept",
            "/restaurants/{restaurant}/orders/{id}/reject",
            "/orders/{id}/delivered",
            "/orders/{id}/confirm",
        ],
    ));
    let delivered = json!({ "order_id": id, "delivery_status": 3 });
    let verdict = json!({ "order_id": id, "reason": "a stolen card" });
    all.extend(served_by(
        "eos-m",
        vec![
            post("/internal/delivery").body(delivered),
            post("/internal/risk-reject").body(verdict).refused(409, "wrong_status"),
        ],
    ));
    all.extend(behind(
        "rev",
        &[
            "/refunds",
            "/refunds/{refund}",
            "/refunds/{refund}/approve",
            "/refunds/{refund}/reject",
            "/refunds/{refund}/arbitrate",
        ],
    ));
    all.extend(behind("vgo", &["/vorders", "/vorders/{id}", "/vorders/{id}/pay", "/vorders/{id}/cancel"]));
    all.extend(behind("blink", &["/courier/{id}/picked", "/courier/{id}/done"]));
    let job = json!({ "order_id": id, "restaurant_id": known.restaurant });
    all.extend(served_by("blink", vec![post("/dispatch").body(json!([job]))]));
    all.extend(behind("eus", &["/users/{user}"]));
    all.extend(behind("ers", &["/restaurants/{restaurant}/menu"]));
    all.extend(behind("eps", &["/quote"]));
    all
}

/// Money, stock, coupons and messages, as the order service asks for them.
fn services(known: &Known) -> Vec<Endpoint> {
    let Known { id, user, restaurant, order, total, .. } = known;
    let (user_at, restaurant_at) = (&*user.to_string(), &*restaurant.to_string());
    let payment = &order["payment_id"];
    let portion = json!({ "dish_id": restaurant * 100 + 3, "quantity": 2 });
    let money = served_by(
        "eus",
        vec![
            post("/wallet/hold")
                .body(json!({ "payment_id": payment, "order_id": id, "user_id": user, "amount_fen": total })),
            post("/wallet/settle").body(json!([{ "payment_id": payment, "step": "capture", "subsidy_fen": 0 }])),
            post("/wallet/refunds").body(json!([{ "payment_id": payment, "step": "capture", "subsidy_fen": 0 }])),
            get("/wallet/canary"),
            post("/wallet/after-sales").body(json!([{
                "order_id": id, "user_id": user, "restaurant_id": restaurant, "refunded_fen": Known::GIVEN_BACK_FEN,
            }])),
            post("/wallet/purchase").body(json!({
                "purchase_id": known.vorder.parse::<i64>().unwrap_or_default(), "user_id": user,
                "seller": "breakfast", "amount_fen": 800,
            })),
        ],
    );
    let stock = served_by(
        "ers",
        vec![
            get("/restaurants/{restaurant}").at(&[restaurant_at]),
            post("/stock/reserve")
                .body(json!({ "order_id": id, "restaurant_id": restaurant, "lines": [portion] }))
                .takes(&["order_id"]),
            post("/stock/confirm").body(json!([id])),
            post("/stock/commit").body(json!([id])),
            post("/stock/release").body(json!(["1"])),
            get("/stock/unconfirmed").ask(&[("older_than_ms", "0")]),
            get("/restaurants/{restaurant}/pushes").at(&[restaurant_at]).ask(&[("after", "0")]),
        ],
    );
    let redeem = json!({
        "quote_token": known.basket["quote_token"], "user_id": user, "restaurant_id": restaurant, "order_id": id,
        "guard": null, "known_free": false,
    });
    let coupons = served_by(
        "eps",
        vec![
            post("/quotes/redeem").body(redeem),
            get("/coupons/{coupon}").at(&["1"]),
            post("/coupons/settle").body(json!([{ "coupon_id": "1", "order_id": id, "step": "confirm" }])),
            get("/coupons/unconfirmed").ask(&[("older_than_ms", "0")]),
            get("/coupons/{coupon}/history").at(&["1"]).ask(&[("after", "0")]),
        ],
    );
    let charge = json!({ "payment_id": payment, "order_id": id, "amount_fen": total });
    let escrow = json!({ "order_id": id, "restaurant_id": restaurant, "gross_fen": total, "delivery_fee_fen": 0 });
    let settlements = served_by(
        "ledger",
        vec![
            post("/settlements").body(json!([escrow])).takes(&["order_id"]),
            get("/settlements/{order}").at(&[id]),
            get("/statements/{restaurant}").at(&[restaurant_at]).ask(&[("after", "0")]),
        ],
    );
    let messages = served_by(
        "sms",
        vec![
            post("/send").body(json!({ "recipient": format!("user:{user_at}"), "text": "soon" })).key("message"),
            get("/messages").ask(&[("recipient", "user:1")]),
            get("/inbox/{event}").at(&["1.1"]),
        ],
    );
    [money, stock, coupons, served_by("pay", vec![post("/charges").body(charge)]), settlements, messages].concat()
}

/// A change that comes too late to change its order.
fn late_change(known: &Known) -> Value {
    let (id, payment) = (&known.id, &known.order["payment_id"]);
    json!({
        "order_id": id, "user_id": known.order["user_id"], "restaurant_id": known.order["restaurant_id"],
        "expected_status": -5, "expected_version": 0, "expected_refund": [null, 0],
        "step": { "to": -3, "event": "pay" }, "paid_fen": 1, "refund_status": 1, "refunded_fen": 1, "refund_no": 1,
        "settled_at_ms": 1, "delivery_status": 1, "kitchen": [1, 1],
        "payment": { "payment_id": payment, "amount_fen": 1, "state": "open" },
        "refund": { "refund_id": "r", "payment_id": payment, "amount_fen": 1, "source": "escrow", "state": "open" },
        "tasks": [{ "kind": "charge", "due_at_ms": 0 }], "guard": null,
    })
}

/// The data-access roles. What a change says was decided by who sends it: they see to shape and place.
fn stores(known: &Known) -> Vec<Endpoint> {
    let Known { id, user, restaurant, order, .. } = known;
    let (user_at, restaurant_at) = (&*user.to_string(), &*restaurant.to_string());
    let made = json!({
        "order": order, "quoted": { "quote": "0123456789abcdef", "total_fen": order["total_fen"] },
        "tasks": [{ "kind": "close_unpaid", "due_at_ms": 0 }], "guard": null,
    });
    let mapped = &*known.bare_id;
    let keys = json!({ "order_id": mapped, "user_id": user, "restaurant_id": restaurant });
    let outcome = json!({
        "changes": [late_change(known)], "done": [0], "retry": [{ "task_id": 0, "due_at_ms": 0 }],
    });
    let of_users = served_by(
        "st-u",
        vec![
            post("/orders").body(made),
            get("/orders").ask(&[
                ("user_id", user_at),
                ("req_id", "r"),
                ("status", "9"),
                ("since", "0"),
                ("limit", "1"),
            ]),
            get("/orders/{id}").at(&[id]).ask(&[("user_id", user_at), ("restaurant_id", restaurant_at)]),
            get("/users/{user}/orders").at(&[user_at]).ask(&[("since", "0"), ("limit", "1")]),
            // Whoever makes an order says first whose it will be.
            post("/mapping").body(keys).takes(&["order_id", "user_id", "restaurant_id"]),
            get("/mapping/{id}").at(&[mapped]),
            post("/changes").body(late_change(known)),
            get("/tasks").ask(&[("limit", "1"), ("wait_ms", "0")]),
            post("/tasks/settle").body(outcome),
            get("/outbox").ask(&[("limit", "1"), ("wait_ms", "0")]),
            post("/outbox/mark").body(json!({ "sent": [0] })),
            post("/blocks").body(json!({ "life": known.life, "first": 0 })),
        ],
    );
    let number = json!({
        "order_id": id, "user_id": user_at, "restaurant_id": restaurant_at, "version": 1, "day": order["day"],
    });
    let of_merchants = served_by(
        "st-r",
        vec![
            // An ID without slots says nothing against the keys that come with it.
            post("/orders/apply").body(json!([order])).takes(&["order_id"]),
            post("/numbers").body(json!([number])),
            get("/orders").ask(&[("restaurant_id", restaurant_at), ("status", "9"), ("limit", "1")]),
            get("/orders/{id}").at(&[id]).ask(&[("user_id", user_at), ("restaurant_id", restaurant_at)]),
        ],
    );
    [of_users, of_merchants].concat()
}

fn registry() -> Vec<Endpoint> {
    let guest = json!({ "address": "127.0.0.1:9", "state": "up", "weight": 1 });
    served_by(
        "reg",
        vec![
            get("/svc"),
            get("/svc/{service}").at(&["eus"]),
            put("/svc/{service}/{instance}")
                .at(&["guest", "guest-1"])
                .ask(&[("ttl_ms", "0")])
                .body(guest)
                .answers(204)
                .takes(&["service", "instance"]),
            delete("/svc/{service}/{instance}").at(&["guest", "guest-2"]).answers(204),
            get("/watch").ask(&[("epoch", "0"), ("rev", "0"), ("timeout_ms", "1")]),
            get("/mask"),
            put("/mask/{service}/{instance}")
                .at(&["guest", "guest-3"])
                .ask(&[("ttl_ms", "3600000")])
                .answers(204)
                .takes(&["service", "instance"]),
            delete("/mask/{service}/{instance}").at(&["guest", "guest-4"]).answers(204),
            get("/switch"),
            get("/switch/{name}").at(&["pay.callback"]),
            put("/switch/{name}").at(&["pay.callback"]).ask(&[("by", "nobody")]).body(json!("prompt")).takes(&["by"]),
            put("/switch/{name}")
                .at(&["pay.callback"])
                .ask(&[("instance", "nobody-1")])
                .body(json!("prompt"))
                .refused(404, "not_found"),
        ],
    )
}

/// The embedded broker, with a queue of its own.
fn broker() -> Vec<Endpoint> {
    const QUEUE: &str = "bad.input";
    let queue = json!({ "name": QUEUE, "bindings": ["bad.*"] });
    let message = json!({ "id": "m1", "key": "nobody.takes.it", "body": "{}" });
    served_by(
        "mq",
        vec![
            post("/topology").body(json!({ "exchange": "bad", "queues": [queue], "retry_ms": [100] })),
            post("/publish").body(json!({ "exchange": "bad", "queue": null, "confirm": true, "messages": [message] })),
            post("/consume")
                .body(json!({ "queue": QUEUE, "consumer": "test/1/1", "most": 1, "holds": [0], "wait_ms": 0 })),
            post("/settle")
                .body(json!({ "queue": QUEUE, "consumer": "test/1/1", "done": [0], "requeue": [0], "retry": [0] })),
            post("/depth").body(json!({ "queue": QUEUE })),
            post("/dead").body(json!({ "queue": QUEUE })),
            post("/replay").body(json!({ "queue": QUEUE, "most": 1 })),
        ],
    )
}

/// The auditor, and what every role tells of itself.
fn onlookers(known: &Known) -> Vec<Endpoint> {
    let write = json!({
        "method": "POST", "path": format!("/orders/{}/pay", known.id), "key": "load-1", "outcome": "fail",
        "status": 409, "answer": {},
    });
    let auditor = vec![
        get("/online"),
        get("/audit").ask(&[("quiesce_ms", "0")]),
        post("/audit").ask(&[("quiesce_ms", "0")]).body(write),
        get("/inbox/{event}").at(&["1.1"]),
    ];
    let frame = vec![
        get("/healthz"),
        get("/readyz"),
        get("/metrics"),
        get("/debug/state"),
        post("/debug/block").ask(&[("ms", "1")]),
    ];
    [served_by("auditor", auditor), served_by("frame", frame)].concat()
}

/// What a system with an old table has beside all that, while that table decides.
pub(crate) fn of_a_migration(known: &Known) -> Vec<Endpoint> {
    let Known { id, whole, .. } = known;
    let row = json!({ "outbox_id": 1, "message": { "id": format!("{id}.1"), "key": "order.created", "body": "{}" } });
    let difference = json!({ "order_id": id, "at_ms": 1, "what": "nothing" });
    let everything = ("created_until_ms", "9000000000000");
    let stores = vec![
        get("/migration/state"),
        post("/migration/stance").body(json!({ "phase": "P0", "fenced": false })),
        post("/migration/apply")
            .of("st-u0-1")
            .body(json!({ "orders": [whole], "guard": "newer" }))
            .refused(409, "no_copies"),
        get("/migration/orders/{id}").at(&[id]),
        get("/migration/older").ask(&[everything, ("shard", "-1"), ("order_id", "0"), ("limit", "10")]),
        get("/migration/older/count").ask(&[everything]),
        get("/migration/digests").ask(&[
            ("shard", "-1"),
            ("order_id", "0"),
            ("until_shard", "120"),
            ("until_order_id", "0"),
            ("limit", "10"),
        ]),
        post("/migration/log").body(json!({ "seen": [difference], "repair": false })).takes(&["order_id"]),
        get("/migration/differences").ask(&[("since_ms", "0"), ("limit", "10")]),
        get("/migration/outbox").of("st-u0-1").ask(&[("limit", "10")]),
        post("/migration/outbox").body(json!([row])).refused(409, "deciding"),
        post("/migration/outbox/done").body(json!({ "sent": [0] })),
        post("/migration/drop").refused(409, "in_use"),
    ];
    let stores = stores.into_iter().map(|one| if one.instance.is_empty() { one.of("st-old-1") } else { one }).collect();
    let pause = json!({ "asked": "pause", "to": null, "calm_ms": null, "rate": null });
    [served_by("st-u", stores), served_by("mig", vec![get("/migration"), post("/migration").body(pause)])].concat()
}
