import HoldfastCore
import HoldfastProtocol
import Logging
import NIOConcurrencyHelpers
import NIOCore
import RESP

/// Messages that backends PUBLISH to Redis, as SocketShark takes them (socketshark.md §8 and §10), with what Pub/Sub lacks:
/// positions and a history in this process's memory, and subscriptions that outlive their last subscriber for a while, so that
/// a client that was away finds what came meanwhile.
///
/// Whatever is published goes through Redis, so that every gateway gets it. Where a connection was lost, nobody knows what
/// was published meanwhile: the topics' histories then have a gap, and subscribers are told once Redis has acknowledged the
/// subscriptions anew.
public final class RedisBroker: Broker {
    private typealias Waiter = @Sendable (ChannelTable<Int>.Answer) -> Void

    private struct State {
        var table: ChannelTable<Int>
        var outlet = BrokerOutlet(shards: 1) { _, _ in }
        var waiters: [Int: Waiter] = [:]
        var nextWaiter = 0
        var idempotency: IdempotencyKeys
        var published: UInt64 = 0
        /// Publications with an idempotency key that are under way, and who waits for them.
        var underWay: [[UInt8]: [CheckedContinuation<Void, Never>]] = [:]
        var duplicates: UInt64 = 0
        var drops: [String: UInt64] = [:]
        /// Of the last PING of each connection, in seconds.
        var latencies: [Int: Double] = [:]
        var isStopped = false
        var wasConnected: [Bool]
        /// In a row.
        var failures: [Int]
    }

    private let memory: MemoryBroker
    private let rules: PublishingRules
    private let settings: [RedisSettings]
    private let epoch: String
    private let loop: any EventLoop
    private let logger: Logger
    private let monotonic: MemoryBroker.Clock
    private let state: NIOLockedValueBox<State>
    /// One for each Redis that is listened to.
    private let listeners: [RESPLink]
    /// For PUBLISH: while it has subscriptions, a connection of the older protocol takes no other commands.
    private let publisher: RESPLink

    /// - Parameters:
    ///   - settings: the Redis that is published to, and perhaps a second one that is listened to as well.
    ///   - limits: bounds of the history.
    ///   - rules: what messages of which service have.
    ///   - epoch: names this process's life.
    ///   - eventLoop: all connections live on it.
    ///   - monotonic: microseconds on a clock that only ages are measured with.
    ///   - wall: microseconds since 1970.
    /// - Throws: an error of the TLS library if certificates cannot be read.
    public init(
        _ settings: RedisSettings,
        alternative: RedisSettings? = nil,
        limits: MemoryBroker.Limits,
        rules: PublishingRules,
        epoch: String,
        eventLoop: any EventLoop,
        logger: Logger,
        monotonic: @escaping MemoryBroker.Clock,
        wall: @escaping MemoryBroker.Clock
    ) throws {
        self.settings = [settings] + (alternative.map { [$0] } ?? [])
        self.memory = MemoryBroker(limits: limits, epoch: epoch, monotonic: monotonic, wall: wall)
        self.rules = rules
        self.epoch = epoch
        self.loop = eventLoop
        self.logger = logger
        self.monotonic = monotonic
        self.state = NIOLockedValueBox(
            State(
                table: ChannelTable(
                    links: self.settings.count,
                    linger: .seconds(settings.linger),
                    timeout: .seconds(settings.subscribeTimeout)
                ),
                idempotency: IdempotencyKeys(
                    limit: limits.idempotencyKeys,
                    ttl: Int64(limits.idempotencyTTL * 1_000_000)
                ),
                wasConnected: self.settings.map { _ in false },
                failures: self.settings.map { _ in 0 }
            )
        )
        let broker = Weak()
        self.listeners = try self.settings.enumerated().map { index, settings in
            try RESPLink(settings, eventLoop: eventLoop, logger: logger) { broker.value?.handle($0, link: index) }
        }
        self.publisher = try RESPLink(settings, eventLoop: eventLoop, logger: logger) { _ in }
        broker.value = self
    }

    /// For handlers that are made before the broker is complete. Set once, in `init`, before any connection is made.
    private final class Weak: @unchecked Sendable {
        weak var value: RedisBroker?
    }

    public func start(_ outlet: BrokerOutlet) {
        self.memory.start(outlet)
        self.state.withLockedValue { $0.outlet = outlet }
        for link in self.listeners { link.start() }
        self.publisher.start()
    }

    public func stop() async {
        self.state.withLockedValue { $0.isStopped = true }
        for link in self.listeners + [self.publisher] { try? await link.stop().get() }
    }

    private func channel(_ subscription: String, link: Int) -> String {
        self.settings[link].channelPrefix + subscription
    }

    // MARK: Publishing

    public func publish(_ draft: PublicationDraft, history: HistorySettings) async throws -> PublishReceipt {
        guard let key = draft.idempotencyKey else { return try await self.send(draft) }
        let place = Array(draft.subscription.utf8) + [0] + Array(key.utf8)
        while true {
            switch self.claim(place, draft.subscription, key) {
            case .known(let receipt): return receipt
            case .underWay: await self.waitFor(place)
            case .free:
                defer { self.release(place) }
                let receipt = try await self.send(draft)
                let now = self.monotonic()
                self.state.withLockedValue { $0.idempotency.remember(draft.subscription, key, receipt, now: now) }
                return receipt
            }
        }
    }

    private enum Claim {
        case known(PublishReceipt)
        /// A publisher that repeats is often one whose first try takes long.
        case underWay
        case free
    }

    private func claim(_ place: [UInt8], _ subscription: String, _ key: String) -> Claim {
        let now = self.monotonic()
        return self.state.withLockedValue { state in
            if let receipt = state.idempotency.receipt(subscription, key, now: now) {
                state.duplicates += 1
                return .known(receipt)
            }
            guard state.underWay[place] == nil else { return .underWay }
            state.underWay[place] = []
            return .free
        }
    }

    private func waitFor(_ place: [UInt8]) async {
        await withCheckedContinuation { continuation in
            let isOver = self.state.withLockedValue { state in
                guard state.underWay[place] != nil else { return true }
                state.underWay[place]?.append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    private func release(_ place: [UInt8]) {
        let waiting = self.state.withLockedValue { $0.underWay.removeValue(forKey: place) }
        for continuation in waiting ?? [] { continuation.resume() }
    }

    private func send(_ draft: PublicationDraft) async throws -> PublishReceipt {
        do {
            _ = try await self.publisher.execute(
                "PUBLISH", .string(self.channel(draft.subscription, link: 0)), .bytes(draft.envelope)
            ).get()
        } catch {
            throw BrokerError("Redis did not take the publication: \(error)", isRetriable: true)
        }
        return self.state.withLockedValue { state in
            state.published += 1
            return PublishReceipt(id: "\(self.epoch)-p\(state.published)", position: nil)
        }
    }

    // MARK: Subscribing

    public func subscribe(
        _ subscription: String,
        shard: Int,
        since: Position?,
        history: HistorySettings,
        completion: @escaping @Sendable (Result<Recovery, BrokerError>) -> Void
    ) {
        let now = self.now
        self.change { state in
            let waiter = state.nextWaiter
            state.nextWaiter += 1
            state.waiters[waiter] = { answer in
                switch answer {
                case .live: break
                case .timeout:
                    return completion(
                        .failure(BrokerError("Redis did not acknowledge the subscription in time", isRetriable: true)))
                case .refused:
                    return completion(.failure(BrokerError("Redis refused the subscription", isRetriable: false)))
                }
                // Whoever asked may have left meanwhile: then the topic must not be marked as wanted for good.
                let result = self.state.withLockedValue { state -> Result<Recovery, BrokerError> in
                    guard state.table.isWanted(subscription, shard: shard) else {
                        return .failure(BrokerError("nobody waits for the subscription any more", isRetriable: false))
                    }
                    return self.memory.subscribe(subscription, shard: shard, since: since, history: history)
                }
                completion(result)
            }
            return state.table.subscribe(subscription, shard: shard, now: now, waiter)
        }
    }

    public func extend(_ subscription: String, to shard: Int) throws(BrokerError) -> UInt64 {
        try self.state.withLockedValue { state in
            Result { () throws(BrokerError) in
                state.table.extend(subscription, to: shard)
                return try self.memory.extend(subscription, to: shard)
            }
        }.get()
    }

    public func unsubscribe(_ subscription: String, shard: Int, mayReturn: Bool) {
        let now = self.now
        self.change { state in
            self.memory.unsubscribe(subscription, shard: shard, mayReturn: mayReturn)
            return state.table.unsubscribe(subscription, shard: shard, lingers: mayReturn, now: now)
        }
    }

    private var now: Instant { Instant(microseconds: self.monotonic()) }

    /// Changes the table and does what follows from it. Commands are queued for the connections' loop under the lock, so
    /// that they go out in the order of the changes.
    private func change(_ body: (inout State) -> ChannelTable<Int>.Effects) {
        typealias Answers = [(waiter: Waiter, answer: ChannelTable<Int>.Answer)]
        let (answers, lost, outlet) = self.state.withLockedValue { state -> (Answers, [String], BrokerOutlet) in
            let effects = body(&state)
            for (link, names) in effects.unsubscribe {
                let channels = names.map { self.channel($0, link: link) }
                self.loop.execute { self.listeners[link].unsubscribe(channels) }
            }
            for (link, names) in effects.subscribe {
                let channels = names.map { self.channel($0, link: link) }
                self.loop.execute { self.listeners[link].subscribe(channels) }
            }
            for name in effects.gaps {
                guard let service = self.rules.service(of: name) else { continue }
                self.memory.markGap(name, history: service.history)
            }
            let answers = effects.answers.compactMap { answer in
                state.waiters.removeValue(forKey: answer.waiter).map { ($0, answer.answer) }
            }
            return (answers, effects.lost, state.outlet)
        }
        for (waiter, answer) in answers { waiter(answer) }
        for name in lost { outlet.subscriptionLost(name) }
    }

    // MARK: What Redis says

    private func handle(_ event: RESPLink.Event, link: Int) {
        switch event {
        case .message(let channel, let payload): self.receive(channel, payload, link: link)
        case .subscribed(let channel):
            guard let name = self.name(channel, link: link) else { return }
            self.change { $0.table.acknowledged(name, link) }
        case .refused(let channel, let error):
            guard let name = self.name(channel, link: link) else { return }
            self.logger.warning("redis refused a channel", metadata: ["channel": "\(name)", "reason": "\(error)"])
            self.change { $0.table.refused(name, link) }
        case .unsubscribed: break
        case .connected:
            self.logger.info("redis connected", metadata: ["redis": "\(self.settings[link])"])
            self.change { state in
                state.wasConnected[link] = true
                state.failures[link] = 0
                return state.table.up(link)
            }
        case .disconnected(let reason):
            let (loss, outlet, failures) = self.state.withLockedValue { state in
                state.failures[link] += 1
                let wasUp = state.table.isUp(link)
                if wasUp { state.table.down(link) }
                let loss = wasUp ? BrokerOutlet.ConnectionLoss.lost : .neverConnected(reason: reason)
                let isNews = !state.isStopped && (wasUp || !state.wasConnected[link])
                return (loss, isNews ? state.outlet : nil, state.failures[link])
            }
            // It is tried for as long as it takes: every power of two is said.
            if failures & (failures - 1) == 0 {
                self.logger.error(
                    loss == .lost ? "redis lost" : "could not connect to redis",
                    metadata: [
                        "redis": "\(self.settings[link])", "reason": "\(reason)", "failures": "\(failures)",
                    ]
                )
            }
            outlet?.connectionLost(loss)
        case .latency(let seconds): self.state.withLockedValue { $0.latencies[link] = seconds }
        }
    }

    private func name(_ channel: ByteBuffer, link: Int) -> String? {
        let prefix = self.settings[link].channelPrefix.utf8
        let bytes = channel.readableBytesView
        guard bytes.starts(with: prefix) else { return nil }
        return String(decoding: bytes.dropFirst(prefix.count), as: UTF8.self)
    }

    private func receive(_ channel: ByteBuffer, _ payload: ByteBuffer, link: Int) {
        guard payload.readableBytes <= self.rules.messageBytes else {
            self.drop("too_large", channel, "\(payload.readableBytes) bytes, the limit is \(self.rules.messageBytes)")
            return self.tellGap(channel, link: link)
        }
        let message: PublishedMessage
        do throws(PublishedMessage.Problem) {
            message = try PublishedMessage(parsing: payload, limits: self.rules.json)
        } catch {
            return self.drop(error.rawValue, channel, error.rawValue)
        }
        // The body's name, not the channel, decides in SocketShark (socketshark.md §8), by accident.
        let bytes = channel.readableBytesView
        let prefix = self.settings[link].channelPrefix.utf8
        guard bytes.count == prefix.count + message.subscription.utf8.count,
            bytes.dropFirst(prefix.count).elementsEqual(message.subscription.utf8)
        else { return self.drop("other_channel", channel, "the message is for \(message.subscription)") }
        guard let service = self.rules.service(of: message.subscription) else { return }
        let draft = PublicationDraft(
            subscription: message.subscription,
            data: message.data.raw,
            publishedAt: message.publishedAt,
            conditions: message.conditions(filterFields: service.filterFields, limits: self.rules.json)
        )
        do throws(BrokerError) {
            _ = try self.memory.publishNow(draft, history: service.history)
        } catch {
            self.drop("no_room", channel, error.description)
            return self.tellGap(channel, link: link)
        }
        self.rest(link)
    }

    /// A message that was good is not delivered.
    private func tellGap(_ channel: ByteBuffer, link: Int) {
        guard let name = self.name(channel, link: link), let service = self.rules.service(of: name) else {
            return
        }
        self.memory.markGap(name, history: service.history)
    }

    /// Reads no more from Redis until the event loops have caught up. What Redis keeps for us meanwhile is bounded by its
    /// `client-output-buffer-limit pubsub`; beyond it the connection is lost, and a gap is told.
    private func rest(_ link: Int) {
        guard self.state.withLockedValue({ $0.outlet }).isBusy() else { return }
        self.listeners[link].pauseReading()
        self.wake(link)
    }

    private func wake(_ link: Int) {
        self.loop.scheduleTask(in: .milliseconds(10)) {
            let isBusy = self.state.withLockedValue { $0.outlet }.isBusy()
            if isBusy { self.wake(link) } else { self.listeners[link].resumeReading() }
        }
    }

    private func drop(_ reason: String, _ channel: ByteBuffer, _ text: String) {
        let count = self.state.withLockedValue { state in
            state.drops[reason, default: 0] += 1
            return state.drops[reason, default: 0]
        }
        // A publisher that does it wrong does it again and again: every power of two is said.
        guard count & (count - 1) == 0 else { return }
        self.logger.warning(
            "invalid service event",
            metadata: ["channel": "\(String(buffer: channel).prefix(300))", "reason": "\(text)", "so_far": "\(count)"]
        )
    }

    // MARK: The rest

    public func history(_ subscription: String, since: UInt64?, limit: Int) async throws -> HistoryPage {
        try await self.memory.history(subscription, since: since, limit: limit)
    }

    public func expire() {
        let now = self.now
        self.memory.expire()
        self.change { state in
            state.idempotency.expire(now: now.microseconds)
            return state.table.expire(now: now)
        }
    }

    public var isReady: Bool { self.state.withLockedValue { $0.table.isReady } }

    public var statistics: BrokerStatistics {
        var statistics = self.memory.statistics
        self.state.withLockedValue { state in
            statistics.duplicates = state.duplicates
            statistics.idempotencyKeys = state.idempotency.count
            statistics.drops = state.drops
            statistics.connections = self.settings.indices.map { link in
                BrokerStatistics.Connection(
                    name: link == 0 ? "redis" : "redis_alt",
                    isConnected: state.table.isUp(link),
                    latency: state.latencies[link]
                )
            }
            statistics.channels = state.table.count
        }
        return statistics
    }
}

extension RESPLink {
    fileprivate convenience init(
        _ settings: RedisSettings,
        eventLoop: any EventLoop,
        logger: Logger,
        handler: @escaping @Sendable (Event) -> Void
    ) throws {
        var configuration = RESPConnectionConfiguration(
            authentication: settings.password.map { .init(username: settings.username, password: $0) },
            databaseNumber: settings.database,
            clientName: "holdfast"
        )
        if let tls = settings.tls { configuration.tls = .enable(try tls.context(), tlsServerName: tls.serverName) }
        self.init(
            address: settings.socket.map { .unixDomainSocket(path: $0) }
                ?? .hostname(settings.host, port: settings.port),
            configuration: configuration,
            liveness: Liveness(pingInterval: settings.pingInterval, pingTimeout: settings.pingTimeout),
            eventLoop: eventLoop,
            logger: logger,
            handler: handler
        )
    }
}
