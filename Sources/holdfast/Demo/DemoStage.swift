import HoldfastClient
import HoldfastFaults
import Logging

/// What stands around the gateway in a demo: the telephone system that publishes, and the line that can be cut.
actor DemoStage {
    struct Settings: Sendable {
        /// Of the gateway, as a program on this machine reaches it.
        var host: String
        /// Where the page is to reach the proxy: the address that the gateway itself listens on.
        var listenHost: String
        /// Events per second.
        var rate: Double
        /// Seconds.
        var sessionTTL: Double
        /// Publications per topic.
        var history: Int
        var apiKey: String?
    }

    nonisolated let settings: Settings
    private let logger: Logger
    private var proxy: FaultProxy?
    private var telephone: FakeTelephoneSystem?
    private var publishing: Task<Void, Never>?
    private var isCut = false
    /// Of the last cut.
    private var mode = Mode.lose

    init(settings: Settings, logger: Logger) {
        self.settings = settings
        self.logger = logger
    }

    /// The gateway listens: the play may begin.
    ///
    /// - Throws: if no port can be had for the proxy.
    func open(gatewayPort: Int) async throws {
        var configuration = FaultProxy.Configuration(serverHost: self.settings.host, serverPort: gatewayPort)
        configuration.listenHost = self.settings.listenHost
        self.proxy = try await FaultProxy.start(configuration)
        let host = self.settings.host.contains(":") ? "[\(self.settings.host)]" : self.settings.host
        let publisher = try EventPublisher(url: "http://\(host):\(gatewayPort)", apiKey: self.settings.apiKey)
        let telephone = FakeTelephoneSystem(publisher: publisher, rate: self.settings.rate, logger: self.logger)
        self.telephone = telephone
        self.publishing = Task { await telephone.publishUntilCancelled() }
    }

    func close() async {
        self.publishing?.cancel()
        await self.publishing?.value
        await self.proxy?.shutdown()
    }

    // MARK: The switch

    enum Mode: String, Codable, Sendable {
        /// What is sent meanwhile is lost.
        case lose
        /// What is sent meanwhile arrives at the restore.
        case delay
    }

    func cut(mode: Mode, existingOnly: Bool) async {
        let packets: CutPackets =
            switch mode {
            case .lose: .lost
            case .delay: .delayed
            }
        await self.proxy?.cut(.both, packets: packets, reach: existingOnly ? .existingConnections : .everything)
        self.isCut = true
        self.mode = mode
    }

    func restore() async {
        await self.proxy?.restore()
        self.isCut = false
    }

    // MARK: What the page asks for

    struct Config: Encodable, Sendable {
        var proxyPort: Int
        var subscription: String
        /// Events per second.
        var rate: Double
        /// Seconds.
        var sessionTTL: Double
        /// Publications.
        var history: Int
    }

    /// `nil` before the play has begun.
    var config: Config? {
        guard let proxy else { return nil }
        return Config(
            proxyPort: proxy.port,
            subscription: FakeTelephoneSystem.subscription,
            rate: self.settings.rate,
            sessionTTL: self.settings.sessionTTL,
            history: self.settings.history
        )
    }

    struct Stats: Encodable, Sendable {
        /// Number of the last event that the gateway has accepted.
        var published: Int
        var run: String
        /// The gateway's clock: ms since 1970.
        var now: Double
        var cut: Bool
        /// Of the last cut.
        var mode: Mode
        var connections: Int
        /// Bytes, both ways together.
        var swallowedBytes: Int
        var swallowedEnds: Int
    }

    /// `nil` before the play has begun.
    func stats() async -> Stats? {
        guard let proxy, let telephone else { return nil }
        let line = await proxy.statistics
        return Stats(
            published: await telephone.published,
            run: telephone.run,
            now: FakeTelephoneSystem.now(),
            cut: self.isCut,
            mode: self.mode,
            connections: line.connectionsOpen,
            swallowedBytes: line.bytesSwallowedToServer + line.bytesSwallowedToClient,
            swallowedEnds: line.endsSwallowed
        )
    }
}
