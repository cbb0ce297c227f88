import HoldfastCore
import HoldfastProtocol

/// A session as people see it: a copy that may leave its event loop. Has no secret in it.
struct SessionReport: Sendable {
    let handle: SessionName.Handle
    let dialect: Dialect
    let state: String
    let client: String?
    let transport: String?
    let remote: String?
    let openedAt: Int64
    let subscriptions: [String]
    let sent: UInt64
    let acknowledged: UInt64
    let received: UInt64
    let resumes: Int
    let queueEvents: Int
    let queueBytes: Int
    let outboxEvents: Int
    let outboxBytes: Int
    let outboxForgotten: UInt64
    let roundTrips: RoundTrips
    let timeline: Timeline
}

extension Session {
    var report: SessionReport {
        let state =
            switch self.core.state {
            case .attached: "attached"
            case .waiting: "waiting"
            case .ended: "ended"
            }
        return SessionReport(
            handle: self.name.handle,
            dialect: self.dialect,
            state: state,
            client: self.client,
            transport: self.transport?.kind.rawValue,
            remote: self.transport?.remote,
            openedAt: self.openedAt,
            subscriptions: self.subscriptions.names.sorted(),
            sent: self.core.outbox.sent,
            acknowledged: self.core.outbox.acknowledged,
            received: self.core.received,
            resumes: self.core.resumes,
            queueEvents: self.queue.events.count,
            queueBytes: self.queue.bytes,
            outboxEvents: self.core.outbox.keptEvents,
            outboxBytes: self.core.outbox.keptBytes,
            outboxForgotten: self.core.outbox.forgotten,
            roundTrips: self.roundTrips,
            timeline: self.timeline
        )
    }
}

extension JSONWriter {
    /// One line of `GET /api/sessions`.
    mutating func summary(_ session: SessionReport) {
        self.member("id", session.handle.description)
        self.member("dialect", session.dialect.rawValue)
        self.member("state", session.state)
        if let client = session.client { self.member("client", client) }
        if let transport = session.transport { self.member("transport", transport) }
        if let remote = session.remote { self.member("remote", remote) }
        self.member("opened_at", Timestamp.text(microseconds: session.openedAt))
        self.member("subscription_count", session.subscriptions.count)
        self.member("queue_bytes", session.queueBytes)
    }

    /// `GET /api/sessions/{id}`.
    mutating func detail(_ session: SessionReport) {
        self.summary(session)
        self.member(
            "subscriptions",
            array: { json in
                for name in session.subscriptions { json.element(name) }
            })
        self.member("sent", session.sent)
        self.member("acknowledged", session.acknowledged)
        self.member("received", session.received)
        self.member("resumes", session.resumes)
        self.member("queue_events", session.queueEvents)
        self.member("outbox_events", session.outboxEvents)
        self.member("outbox_bytes", session.outboxBytes)
        self.member("outbox_forgotten", session.outboxForgotten)
        self.member(
            "pings",
            object: { json in
                json.member("sent", session.roundTrips.sent)
                json.member("answered", session.roundTrips.answered)
                json.member("lost", session.roundTrips.lost)
                if let last = session.roundTrips.last { json.member("rtt_last_ms", number: last.milliseconds) }
                if let least = session.roundTrips.least { json.member("rtt_min_ms", number: least.milliseconds) }
                if let most = session.roundTrips.most { json.member("rtt_max_ms", number: most.milliseconds) }
            })
        self.member("timeline_forgotten", session.timeline.forgotten)
        self.member(
            "timeline",
            array: { json in
                for entry in session.timeline.entries {
                    json.element(object: { json in
                        json.member("at", Timestamp.text(microseconds: entry.at))
                        json.member("what", entry.happening.description)
                    })
                }
            })
    }
}
