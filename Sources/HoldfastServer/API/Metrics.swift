import HoldfastBroker
import HoldfastProtocol

/// The metrics page in Prometheus' text format 0.0.4.
///
/// An exporter of our own instead of swift-metrics: the counters are plain integers of each event loop, added up when
/// somebody asks, where a metrics library would put an atomic operation on every delivery.
extension Gateway {
    func prometheusText() async -> String {
        var total = ShardMetrics()
        for shard in self.shards {
            guard let part = try? await shard.loop.submit({ shard.collectMetrics() }).get() else { continue }
            total.add(part)
        }
        return MetricsPage(
            total, self.broker.statistics, isReady: self.isReady, mailbox: self.shards.map(\.mailbox.count).reduce(0, +)
        ).text
    }
}

extension ShardMetrics {
    mutating func add(_ other: ShardMetrics) {
        self.nativeDeliveries += other.nativeDeliveries
        self.plainDeliveries += other.plainDeliveries
        self.flushes += other.flushes
        self.bytesWritten += other.bytesWritten
        self.clientEvents.merge(other.clientEvents, uniquingKeysWith: +)
        self.transportsOpened.merge(other.transportsOpened, uniquingKeysWith: +)
        self.closes.merge(other.closes, uniquingKeysWith: +)
        self.sessionsOpened += other.sessionsOpened
        self.resumed += other.resumed
        self.resumesRefused += other.resumesRefused
        self.sessionsExpired += other.sessionsExpired
        self.pingsSent += other.pingsSent
        self.pingsLost += other.pingsLost
        self.slowConsumers += other.slowConsumers
        self.gaps += other.gaps
        self.recoveries += other.recoveries
        self.attachedSessions.merge(other.attachedSessions, uniquingKeysWith: +)
        self.waitingSessions += other.waitingSessions
        self.transports.merge(other.transports, uniquingKeysWith: +)
        self.subscriptions += other.subscriptions
        self.queueBytes += other.queueBytes
        self.outboxBytes += other.outboxBytes
        self.topics += other.topics
    }
}

private struct MetricsPage {
    private(set) var text = ""

    init(_ metrics: ShardMetrics, _ broker: BrokerStatistics, isReady: Bool, mailbox: Int) {
        self.gauge("holdfast_ready", "1 while clients should be sent here", [("", isReady ? 1 : 0)])
        self.gauge(
            "holdfast_sessions", "Sessions by dialect and state",
            Dialect.allCases.map {
                ("{dialect=\"\($0.rawValue)\",state=\"attached\"}", metrics.attachedSessions[$0, default: 0])
            } + [("{dialect=\"native\",state=\"waiting\"}", metrics.waitingSessions)]
        )
        self.gauge("holdfast_transports", "Open transports", Self.byKind(metrics.transports))
        self.gauge("holdfast_subscriptions", "Subscriptions of all sessions", [("", metrics.subscriptions)])
        self.gauge("holdfast_topics", "Topics with subscribers, counted per event loop", [("", metrics.topics)])
        self.gauge("holdfast_queue_bytes", "Bytes that wait for slow transports", [("", metrics.queueBytes)])
        self.gauge("holdfast_outbox_bytes", "Bytes kept until clients acknowledge them", [("", metrics.outboxBytes)])
        self.gauge("holdfast_fanout_backlog", "Publications on their way to the event loops", [("", mailbox)])
        self.counter(
            "holdfast_deliveries_total", "Publications handed to sessions",
            [("{dialect=\"native\"}", metrics.nativeDeliveries), ("{dialect=\"plain\"}", metrics.plainDeliveries)]
        )
        self.counter("holdfast_writes_total", "Writes to transports", [("", metrics.flushes)])
        self.counter("holdfast_written_bytes_total", "Bytes written to transports", [("", metrics.bytesWritten)])
        self.counter(
            "holdfast_client_events_total", "Events of clients by name and outcome",
            metrics.clientEvents.map {
                ("{event=\"\($0.key.event)\",status=\"\($0.key.isSuccess ? "success" : "error")\"}", $0.value)
            }.sorted { $0.0 < $1.0 }
        )
        self.counter(
            "holdfast_transports_opened_total", "Transports ever opened", Self.byKind(metrics.transportsOpened))
        self.counter(
            "holdfast_transports_closed_total", "Transports closed, by who closed them and why",
            metrics.closes.map { ("{reason=\"\($0.key)\"}", $0.value) }.sorted { $0.0 < $1.0 }
        )
        self.counter("holdfast_sessions_opened_total", "Sessions ever opened", [("", metrics.sessionsOpened)])
        self.counter(
            "holdfast_resumes_total", "Clients that came back, by outcome",
            [("{outcome=\"resumed\"}", metrics.resumed), ("{outcome=\"new_session\"}", metrics.resumesRefused)]
        )
        self.counter(
            "holdfast_sessions_expired_total", "Sessions whose client did not come back",
            [("", metrics.sessionsExpired)])
        self.counter(
            "holdfast_recoveries_total", "Subscriptions that asked for what they missed, by outcome",
            [("{outcome=\"recovered\"}", metrics.recoveries), ("{outcome=\"gap\"}", metrics.gaps)]
        )
        self.counter("holdfast_pings_sent_total", "RFC 6455 Pings sent to silent clients", [("", metrics.pingsSent)])
        self.counter("holdfast_pings_lost_total", "Pings that were not answered in time", [("", metrics.pingsLost)])
        self.counter(
            "holdfast_slow_consumers_total", "Sessions ended because they read too slowly",
            [("", metrics.slowConsumers)])
        self.counter("holdfast_publications_total", "Publications accepted", [("", Int(clamping: broker.published))])
        self.counter(
            "holdfast_publications_repeated_total", "Publications known by their idempotency key",
            [("", Int(clamping: broker.duplicates))]
        )
        self.gauge("holdfast_broker_topics", "Topics the broker knows", [("", broker.topics)])
        self.gauge("holdfast_history_publications", "Publications kept", [("", broker.historyPublications)])
        self.gauge("holdfast_history_bytes", "Bytes of publications kept", [("", broker.historyBytes)])
        self.gauge("holdfast_idempotency_keys", "Idempotency keys remembered", [("", broker.idempotencyKeys)])
        self.text += ProcessUsage.current.metrics
        self.gauge(
            "process_resident_memory_bytes", "Resident memory of the process", [("", ProcessUsage.residentBytes)])
    }

    private static func byKind(_ counts: [SessionTransport.Kind: Int]) -> [(String, Int)] {
        SessionTransport.Kind.allCases.map { ("{transport=\"\($0.rawValue)\"}", counts[$0, default: 0]) }
    }

    private mutating func gauge(_ name: String, _ help: String, _ values: [(String, Int)]) {
        self.family(name, help, "gauge", values)
    }

    private mutating func counter(_ name: String, _ help: String, _ values: [(String, Int)]) {
        self.family(name, help, "counter", values)
    }

    private mutating func family(_ name: String, _ help: String, _ type: String, _ values: [(String, Int)]) {
        self.text += "# HELP \(name) \(help).\n# TYPE \(name) \(type)\n"
        for (labels, value) in values { self.text += "\(name)\(labels) \(value)\n" }
    }
}
