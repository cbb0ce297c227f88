import HoldfastBroker
import HoldfastCore
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
            total, self.broker.statistics, self.callbacks?.metrics.withLockedValue { $0 } ?? CallbackMetrics(),
            isReady: self.isReady, mailbox: self.shards.map(\.mailbox.count).reduce(0, +),
            messages: self.messageWindow
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
        self.drops.merge(other.drops, uniquingKeysWith: +)
        self.windingUp += other.windingUp
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

extension ShardMetrics {
    fileprivate func attached(_ isMeant: (AttachedLabel) -> Bool) -> Int {
        self.attachedSessions.reduce(0) { isMeant($1.key) ? $0 + $1.value : $0 }
    }

    fileprivate func attachedLine(_ dialect: Dialect, _ kind: SessionTransport.Kind) -> (String, Int) {
        (
            "{dialect=\"\(dialect.rawValue)\",transport=\"\(kind.rawValue)\"}",
            self.attachedSessions[.init(dialect: dialect, transport: kind), default: 0]
        )
    }
}

private struct MetricsPage {
    private(set) var text = ""

    init(
        _ metrics: ShardMetrics,
        _ broker: BrokerStatistics,
        _ callbacks: CallbackMetrics,
        isReady: Bool,
        mailbox: Int,
        messages: MessageWindow
    ) {
        self.gauge("holdfast_ready", "1 while clients should be sent here", [("", isReady ? 1 : 0)])
        self.gauge(
            "holdfast_sessions", "Sessions by dialect and state",
            Dialect.allCases.map { dialect in
                ("{dialect=\"\(dialect.rawValue)\",state=\"attached\"}", metrics.attached { $0.dialect == dialect })
            } + [
                ("{dialect=\"native\",state=\"waiting\"}", metrics.waitingSessions),
                ("{dialect=\"any\",state=\"winding_up\"}", metrics.windingUp),
            ]
        )
        self.gauge(
            "holdfast_attached_sessions", "Sessions that a transport carries, by dialect and transport",
            [metrics.attachedLine(.plain, .websocket)]
                + SessionTransport.Kind.allCases.map { metrics.attachedLine(.native, $0) }
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
        self.counter(
            "holdfast_drops_total", "Publications kept from a session, or not taken from Redis, by reason",
            DeliveryFilter<Publication>.Reason.allCases.map {
                ("{reason=\"\($0.rawValue)\"}", metrics.drops[$0, default: 0])
            } + [("{reason=\"slow_consumer\"}", metrics.slowConsumers)]
                + broker.drops.sorted { $0.key < $1.key }
                .map { ("{reason=\"\($0.key)\"}", Int(clamping: $0.value)) }
        )
        self.counter("holdfast_writes_total", "Writes to transports", [("", metrics.flushes)])
        self.counter("holdfast_written_bytes_total", "Bytes written to transports", [("", metrics.bytesWritten)])
        self.counter(
            "holdfast_client_events_total", "Events of clients by name and outcome", Self.byEvent(metrics.clientEvents)
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
        self.counter(
            "holdfast_messages_repeated_total", "Messages of clients known by their id, services were not asked again",
            [("", messages.repeated)]
        )
        self.gauge("holdfast_message_ids", "Messages of clients remembered by their id", [("", messages.count)])
        self.gauge("holdfast_broker_topics", "Topics the broker knows", [("", broker.topics)])
        self.gauge("holdfast_history_publications", "Publications kept", [("", broker.historyPublications)])
        self.gauge("holdfast_history_bytes", "Bytes of publications kept", [("", broker.historyBytes)])
        self.gauge("holdfast_idempotency_keys", "Idempotency keys remembered", [("", broker.idempotencyKeys)])
        self.addConnections(broker)
        self.addCallbacks(callbacks)
        self.addSocketShark(metrics, isReady: isReady)
        self.text += ProcessUsage.current.metrics
        self.gauge(
            "process_resident_memory_bytes", "Resident memory of the process", [("", ProcessUsage.residentBytes)])
    }

    private mutating func addConnections(_ broker: BrokerStatistics) {
        guard !broker.connections.isEmpty else { return }
        self.gauge("holdfast_redis_channels", "Channels subscribed, lingering ones included", [("", broker.channels)])
        self.gauge(
            "holdfast_redis_connected", "1 while the connection is there",
            broker.connections.map { ("{connection=\"\($0.name)\"}", $0.isConnected ? 1 : 0) }
        )
        self.head("holdfast_redis_latency_seconds", "Time that the last PING took", "gauge")
        for connection in broker.connections {
            guard let latency = connection.latency else { continue }
            self.text += "holdfast_redis_latency_seconds{connection=\"\(connection.name)\"} \(latency)\n"
        }
    }

    private mutating func addCallbacks(_ callbacks: CallbackMetrics) {
        let name = "holdfast_callback_seconds"
        self.head(name, "Time that services took to answer, all tries and waits included", "histogram")
        let labels = callbacks.histograms.map { entry in
            ("callback=\"\(entry.key.callback.rawValue)\",outcome=\"\(entry.key.outcome)\"", entry.value)
        }.sorted { $0.0 < $1.0 }
        for (label, histogram) in labels {
            for (bound, count) in zip(CallbackMetrics.Histogram.bounds, histogram.buckets) {
                self.text += "\(name)_bucket{\(label),le=\"\(bound)\"} \(count)\n"
            }
            self.text += "\(name)_bucket{\(label),le=\"+Inf\"} \(histogram.count)\n"
            self.text += "\(name)_sum{\(label)} \(histogram.sum)\n\(name)_count{\(label)} \(histogram.count)\n"
        }
        self.counter("holdfast_callback_retries_total", "Tries after the first", [("", callbacks.retries)])
    }

    /// SocketShark's names and types, so that its dashboards go on (socketshark.md §13).
    private mutating func addSocketShark(_ metrics: ShardMetrics, isReady: Bool) {
        let open = metrics.transports.values.reduce(metrics.windingUp, +)
        self.gauge("socketshark_service_state", "1 ready, 0 not", [("", isReady ? 1 : 0)])
        self.gauge("socketshark_connection_count", "Connections, and sessions being ended", [("", open)])
        self.counter(
            "socketshark_connection_total", "Connections ever opened",
            [("", metrics.transportsOpened.values.reduce(0, +))])
        self.gauge(
            "socketshark_event_success_counter", "Events of clients",
            Self.byEvent(metrics.clientEvents.filter { !["hello", "probe", "ack", "pong"].contains($0.key.event) })
        )
    }

    private static func byEvent(_ counts: [ShardMetrics.ClientEventLabel: Int]) -> [(String, Int)] {
        counts.map {
            ("{event=\"\($0.key.event)\",status=\"\($0.key.isSuccess ? "success" : "error")\"}", $0.value)
        }.sorted { $0.0 < $1.0 }
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

    private mutating func head(_ name: String, _ help: String, _ type: String) {
        self.text += "# HELP \(name) \(help).\n# TYPE \(name) \(type)\n"
    }

    private mutating func family(_ name: String, _ help: String, _ type: String, _ values: [(String, Int)]) {
        self.head(name, help, type)
        for (labels, value) in values { self.text += "\(name)\(labels) \(value)\n" }
    }
}
