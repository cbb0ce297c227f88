import HoldfastBroker
import HoldfastCore
import HoldfastProtocol
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import ServiceLifecycle

/// The gateway: sessions on every event loop of a group, and the broker that feeds them.
///
/// It listens to nothing by itself: put ``HummingbirdCore/HTTPServerBuilder/holdfast(_:)`` under a Hummingbird application
/// and ``addRoutes(to:)`` into its router, and run the gateway beside the application as a service.
public final class Gateway: Service {
    public let configuration: Configuration
    public let logger: Logger
    /// Name of this gateway in `hello` replies and logs.
    public let node: String
    public let broker: any Broker
    /// `nil` where no service is to be called.
    let callbacks: CallbackClient?
    /// Who calls them: ``callbacks``, or what stands in for the services in a simulation.
    let caller: (any CallbackCaller)?
    /// For names of sessions and what a peer must not foresee.
    let random: @Sendable () -> UInt64
    let messageWindow: MessageWindow
    let registry = SessionRegistry()
    private let services: [String: ServiceRules]
    /// Of services that are not configured; `nil` where those are unknown.
    private let otherServices: ServiceRules?
    private let loops: [any EventLoop]
    private let state: NIOLockedValueBox<State>
    /// Why the gateway cannot be of use.
    private let failures = AsyncStream<String>.makeStream(bufferingPolicy: .bufferingOldest(1))

    private struct State {
        var shards: [Shard] = []
        var byLoop: [ObjectIdentifier: Shard] = [:]
        var isDraining = false
        /// Clients were sent away because the broker lost its server (`redis.on_loss: close`).
        var isDeaf = false
        var loggedTransports = -1
    }

    /// - Parameters:
    ///   - configuration: already checked.
    ///   - eventLoopGroup: the loops that the server accepts connections on; each gets its part of the sessions.
    ///   - broker: `nil` takes the one that the configuration names.
    /// - Throws: an error of the TLS library if a file that the configuration names cannot be read any more.
    public convenience init(
        configuration: Configuration,
        eventLoopGroup: any EventLoopGroup,
        broker: (any Broker)? = nil,
        logger: Logger = Logger(label: "holdfast")
    ) throws {
        try self.init(configuration, eventLoopGroup, broker, logger, Surroundings())
    }

    /// - Parameter surroundings: what a simulation has under its control, besides the loops and the broker.
    package init(
        _ configuration: Configuration,
        _ eventLoopGroup: any EventLoopGroup,
        _ broker: (any Broker)?,
        _ logger: Logger,
        _ surroundings: Surroundings
    ) throws {
        self.configuration = configuration
        var logger = logger
        let random = surroundings.random
        self.random = random
        let node = configuration.node.isEmpty ? "n\(String(random() & 0xFFFFFF, radix: 36))" : configuration.node
        logger[metadataKey: "node"] = "\(node)"
        self.logger = logger
        self.node = node
        self.messageWindow = MessageWindow(
            limit: configuration.limits.messageIDs,
            bytes: configuration.limits.messageIDBytes,
            time: .milliseconds(Int64(configuration.limits.messageIDTime * 1000))
        )
        let epoch = String(random() & 0xFF_FFFF_FFFF, radix: 36)
        if let broker {
            self.broker = broker
        } else if let redis = configuration.redis {
            self.broker = try RedisBroker(
                redis.settings,
                alternative: configuration.redisAlternative?.settings,
                limits: configuration.broker.memory,
                rules: configuration.publishingRules,
                epoch: epoch,
                eventLoop: eventLoopGroup.next(),
                logger: logger,
                monotonic: { Instant(.now()).microseconds },
                wall: WallClock.microseconds
            )
        } else {
            self.broker = MemoryBroker(
                limits: configuration.broker.memory,
                epoch: epoch,
                monotonic: { Instant(.now()).microseconds },
                wall: WallClock.microseconds
            )
        }
        self.callbacks =
            configuration.hasCallbacks && surroundings.services == nil
            ? try CallbackClient(configuration, eventLoopGroup: eventLoopGroup, logger: logger) : nil
        self.caller = surroundings.services.map(ServiceModel.init) ?? self.callbacks
        self.services = configuration.services.mapValues {
            ServiceRules($0, history: configuration.history(of: $0))
        }
        self.otherServices = configuration.otherServices.map {
            ServiceRules($0, history: configuration.history(of: $0))
        }
        self.loops = Array(eventLoopGroup.makeIterator())
        self.state = NIOLockedValueBox(State())
        let shards = self.loops.enumerated().map { Shard(index: $0.offset, loop: $0.element, gateway: self) }
        self.state.withLockedValue { state in
            state.shards = shards
            for shard in shards { state.byLoop[ObjectIdentifier(shard.loop)] = shard }
        }
        let backlog = configuration.limits.fanoutBacklog
        self.broker.start(
            BrokerOutlet(
                shards: shards.count,
                isBusy: { shards.contains { $0.mailbox.count >= backlog } },
                connectionLost: { [weak self] in self?.brokerLost($0) },
                subscriptionLost: { name in
                    for shard in shards { shard.loop.execute { shard.endSubscriptions(to: name) } }
                },
                sink: { publication, index in shards[index].post(publication) }
            )
        )
        for shard in shards { shard.loop.execute { shard.start() } }
    }

    var shards: [Shard] { self.state.withLockedValue { $0.shards } }
    var shardCount: Int { self.loops.count }

    func shard(of loop: any EventLoop) -> Shard? { self.state.withLockedValue { $0.byLoop[ObjectIdentifier(loop)] } }

    /// What applies to a service; `nil` if it is unknown.
    func service(_ name: String) -> ServiceRules? { self.services[name] ?? self.otherServices }

    /// Whether clients should be sent here: the broker answers and no drain is on.
    public var isReady: Bool { !self.isDraining && self.broker.isReady }

    public var isDraining: Bool { self.state.withLockedValue { $0.isDraining } }

    /// Seconds over which this gateway's clients should spread their return, so that it can take them back at its rate.
    var spread: Double { max(1, Double(self.registry.sessionCount) / self.configuration.acceptRate) }

    /// Header of an answer that refuses for a limit: clients come again as they would after a crash.
    var retryWhenFull: (String, String) { ("Retry-After", String(Int(self.spread.rounded(.up)))) }

    func hello(_ session: SessionName, received: UInt64?) -> ByteBuffer {
        ServerEvent.hello(
            ServerEvent.Hello(
                session: session,
                received: received,
                heartbeat: self.configuration.heartbeat,
                spread: self.spread,
                sessionTTL: self.configuration.sessionTTL,
                node: self.node
            )
        )
    }

    // MARK: Publishing

    /// Publishes to everybody who is subscribed.
    /// - Throws: ``PublishError``.
    public func publish(_ draft: PublicationDraft) async throws -> PublishReceipt {
        let limits = self.configuration.limits
        let name: SubscriptionName
        do throws(ProtocolError) {
            name = try SubscriptionName(draft.subscription, limit: limits.nameBytes)
        } catch {
            throw PublishError.refused(error)
        }
        guard let service = self.service(name.service) else { throw PublishError.refused(.unknownService) }
        let bytes = draft.data.readableBytes
        guard bytes <= limits.publicationBytes else {
            throw PublishError.tooLarge(limit: limits.publicationBytes, actual: bytes)
        }
        let backlog = self.shards.map(\.mailbox.count).max() ?? 0
        guard backlog < limits.fanoutBacklog else {
            throw PublishError.busy(
                "\(backlog) publications wait for an event loop, the limit is \(limits.fanoutBacklog)")
        }
        var draft = draft
        if draft.conditions == nil, !draft.members.isEmpty {
            draft.conditions = DeliveryConditions(
                JSONObject(draft.members), filterFields: service.settings.filterFields, limits: limits.json
            )
        }
        do {
            return try await self.broker.publish(draft, history: service.history)
        } catch let error as BrokerError {
            throw PublishError.busy(error.description)
        }
    }

    /// Settings of a topic's history; `nil` if its service is not configured.
    func history(of subscription: SubscriptionName) -> HistorySettings? {
        self.service(subscription.service)?.history
    }

    // MARK: Life

    /// Runs until a graceful shutdown, then drains. Run it as a service *after* the application in the list, so that it is
    /// stopped first, while the application still answers.
    /// - Throws: ``GatewayError``, with `redis.on_loss: close`, if Redis cannot be reached at the start.
    public func run() async throws {
        let failure = await cancelWhenGracefulShutdown {
            // Ends with `nil` on a graceful shutdown, or when cancelled: no time for politeness then.
            await self.failures.stream.first { _ in true }
        }
        await self.drain()
        await self.broker.stop()
        await self.callbacks?.shutdown()
        for shard in self.shards { try await shard.loop.submit { shard.stop() }.get() }
        if let failure { throw GatewayError(description: "could not connect to redis: \(failure)") }
    }

    /// From now on new clients are sent elsewhere.
    func markDraining() {
        self.state.withLockedValue { $0.isDraining = true }
    }

    /// Why new clients are turned away, and those who come back; `nil` if they are not.
    var refusal: ProtocolError? {
        self.state.withLockedValue { state in
            if state.isDeaf, self.broker.isReady { state.isDeaf = false }
            if state.isDraining { return ProtocolError("This gateway is being stopped.", code: "draining") }
            return state.isDeaf ? ProtocolError("This gateway has lost Redis.", code: "broker_unavailable") : nil
        }
    }

    /// Why a WebSocket is not opened, and the header that says when to come again; `nil` if it is.
    var webSocketRefusal: (text: String, retry: (String, String))? {
        if let refusal = self.refusal { return (refusal.text, ("Retry-After", "1")) }
        let limit = self.configuration.limits.webSockets
        guard self.registry.transportCount >= limit else { return nil }
        return ("The limit of \(limit) WebSockets is reached (a tenth above limits.sessions).", self.retryWhenFull)
    }

    /// `metrics.log`: how many there are, whenever it has changed.
    func logCounts() {
        guard self.configuration.metrics.isLogged else { return }
        let count = self.registry.transportCount
        let isNew = self.state.withLockedValue { state in
            defer { state.loggedTransports = count }
            return state.loggedTransports != count
        }
        guard isNew else { return }
        self.logger.debug(
            "metrics", metadata: ["active_connections": "\(count)", "sessions": "\(self.registry.sessionCount)"])
    }

    private func brokerLost(_ loss: BrokerOutlet.ConnectionLoss) {
        guard self.configuration.redis?.onLoss == .close else { return }
        if case .neverConnected(let reason) = loss {
            self.failures.continuation.yield(reason)
            return
        }
        let isNew = self.state.withLockedValue { state in
            defer { state.isDeaf = true }
            return !state.isDeaf && !state.isDraining
        }
        guard isNew else { return }
        Task { await self.sendEveryoneAway() }
    }
}

/// Why the gateway has stopped by itself.
public struct GatewayError: Error, CustomStringConvertible {
    public let description: String
}

/// Why a publication was not accepted.
public enum PublishError: Error, Sendable {
    case refused(ProtocolError)
    case tooLarge(limit: Int, actual: Int)
    /// The same call may succeed later.
    case busy(String)
}
