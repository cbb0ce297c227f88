import Foundation
import HoldfastClient
import HoldfastFaults
import Synchronization

/// Where one drill happens: what it starts is here, and ends with it.
public final class Stage: Sendable {
    let settings: DrillSettings
    let clock = DrillClock()
    let drill: String
    private let result: Mutex<DrillResult>
    private let leftovers = Mutex<[@Sendable () async -> Void]>([])
    private let progress: @Sendable (String) -> Void
    /// No two drills of a run use the same topic.
    let subscription: String

    init(_ drill: Drill, settings: DrillSettings, progress: @escaping @Sendable (String) -> Void) {
        self.drill = drill.name
        self.settings = settings
        self.progress = progress
        self.result = Mutex(DrillResult(drill: drill.name, fault: drill.fault))
        let name = drill.name.replacing("-", with: "_")
        self.subscription = "\(settings.service).\(name)_\(String(UInt32.random(in: 0...UInt32.max), radix: 36))"
    }

    /// Says what happens now, for people who wait.
    func say(_ text: String) { self.progress(text) }

    func change(_ body: @Sendable (inout DrillResult) -> Void) { self.result.withLock { body(&$0) } }

    func note(_ text: String) { self.change { $0.notes.append(text) } }

    func check(_ check: Check) { self.change { $0.checks.append(check) } }

    var current: DrillResult { self.result.withLock { $0 } }

    // MARK: What is on it

    /// Ends with the drill, the newest first.
    func atEnd(_ body: @escaping @Sendable () async -> Void) {
        self.leftovers.withLock { $0.append(body) }
    }

    func end() async {
        while let body = self.leftovers.withLock({ $0.popLast() }) { await body() }
    }

    /// A gateway of our own with default settings, but for `environment`.
    func gateway(_ name: String = "the gateway", _ environment: [String: String] = [:], files: Int? = nil) async throws
        -> GatewayProcess
    {
        let gateway = try await GatewayProcess.start(
            name, executable: self.settings.executable,
            environment: environment.merging(["HOLDFAST_LOG_LEVEL": "warning"]) { old, _ in old }, files: files)
        self.atEnd { await gateway.kill() }
        return gateway
    }

    /// What is drilled: the user's gateway, or one of our own.
    func target() async throws -> Target {
        guard let url = self.settings.url else { return Target(try await self.gateway()) }
        let address = try GatewayURL(url)
        return Target(host: address.host, port: address.port, path: address.target, url: url, gateway: nil)
    }

    func proxy(to target: Target) async throws -> FaultProxy {
        let proxy = try await FaultProxy.start(.init(serverHost: target.host, serverPort: target.port))
        self.atEnd { await proxy.shutdown() }
        return proxy
    }

    /// - Parameter inOwnProcess: the Swift client too is one of its own.
    func client(inOwnProcess: Bool = false) -> any DrillClient {
        let log = SightingLog(clock: self.clock)
        let client: any DrillClient
        if let command = self.settings.with {
            client = CommandDrillClient(
                command: CommandDrillClient.shell(command), environment: self.environment, log: log)
        } else if inOwnProcess {
            client = CommandDrillClient(
                command: [self.settings.executable, "drill-client"], environment: self.environment, log: log)
        } else {
            client = SwiftDrillClient(log: log)
        }
        self.atEnd { await client.close() }
        return client
    }

    /// What the commands of the user are told beside the lines.
    private var environment: [String: String] {
        var environment = ProcessInfo.processInfo.environment
        environment["HOLDFAST_DRILL_NAME"] = self.drill
        environment["HOLDFAST_DRILL_SUBSCRIPTION"] = self.subscription
        if let url = self.settings.url { environment["HOLDFAST_DRILL_URL"] = url }
        return environment
    }

    /// - Parameter urls: gateways that each event is given to.
    func publisher(to urls: [String], interval: Double = DrillSettings.interval) throws -> Publisher {
        let takes: [Publisher.Take]
        if let command = self.settings.publish {
            let shell = CommandDrillClient.shell(command)
            let child = try ChildProcess(
                "the publish command", shell[0], Array(shell.dropFirst()), environment: self.environment,
                onLine: { _ in })
            self.atEnd { await child.kill() }
            takes = [Publisher.command(child)]
        } else {
            takes = try urls.map { try Publisher.api(url: $0, key: self.settings.apiKey) }
        }
        let publisher = Publisher(
            subscription: self.subscription, interval: interval, clock: self.clock, take: takes)
        self.atEnd { await publisher.stop() }
        return publisher
    }
}

/// What clients connect to.
struct Target: Sendable {
    let host: String
    let port: Int
    /// With the query.
    let path: String
    /// For the publisher, which needs no proxy.
    let url: String
    /// Where it is our own.
    let gateway: GatewayProcess?

    init(host: String, port: Int, path: String, url: String, gateway: GatewayProcess?) {
        self.host = host
        self.port = port
        self.path = path
        self.url = url
        self.gateway = gateway
    }

    init(_ gateway: GatewayProcess) {
        self.init(
            host: "127.0.0.1", port: gateway.port, path: GatewayURL.defaultPath,
            url: "http://127.0.0.1:\(gateway.port)",
            gateway: gateway)
    }

    /// For a client that goes through something that listens on this port of ours.
    func url(through port: Int) -> String { "ws://127.0.0.1:\(port)\(self.path)" }
}
