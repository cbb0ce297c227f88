import Foundation
import HoldfastProtocol
import NIOCore

/// F18 to F20: those who do not know the rules, and a system without room.
extension Drill {
    static let strangers: [Drill] = [
        Drill(
            "f18", "malformed input, frames cut at every byte",
            does: "Says to the gateway what no client would (\(MalformedInput.all.count) kinds), and cuts a frame "
                + "at every byte. Each is answered with a clear error, nothing leaks, and a client beside it has "
                + "every event.",
            needs: [.ownGateway], run: Self.malformed),
        Drill(
            "f19", "10,000 connections without a handshake",
            does: "Opens 10,000 connections that never finish their handshake. Each is closed in time, new clients "
                + "get in meanwhile, and a client beside them has every event.",
            needs: [.ownGateway], isAlone: true, run: Self.unfinished),
        Drill(
            "f20", "file descriptors run out",
            does: "A gateway that may open 200 files is given 400 connections. It says so in its log, those it has "
                + "go on, and it takes new clients when there is room again. (A full disk is for a broker that "
                + "writes to one.)",
            needs: [.ownGateway], run: Self.descriptors),
    ]

    // MARK: F18

    private static func malformed(_ stage: Stage) async throws {
        let scene = try await Scene.make(stage)
        guard let gateway = scene.target.gateway else { throw DrillError.notRun("it needs a gateway of our own") }
        try await scene.begin()
        let fault = stage.clock.now
        let before = try await Usage(gateway)
        var silent: [String] = []
        for input in MalformedInput.all {
            stage.say(input.name)
            if try await !input.isAnswered(port: gateway.port) { silent.append(input.name) }
        }
        stage.check(
            .holds(
                "inputs answered with an error", silent.isEmpty,
                silent.isEmpty ? "\(MalformedInput.all.count)" : "not: \(silent.joined(separator: ", "))",
                limit: "all \(MalformedInput.all.count)"))
        stage.say("a frame cut at every byte")
        let cut = try await CutFrames.run(port: gateway.port, subscription: stage.subscription)
        stage.check(
            .holds(
                "frames in two pieces understood", cut.understood == cut.pieces, "\(cut.understood)",
                limit: "all \(cut.pieces)"))
        let after = try await wait(stage.clock, until: stage.clock.now + 15) { () -> Bool? in
            try await Usage(gateway) == before ? true : nil
        }
        let left = try await Usage(gateway)
        stage.check(
            .holds("left behind of them", after != nil, "\(left)", limit: "\(before)"))
        stage.check(.atMost(0, "lines given up beside them", scene.log.times(since: fault) { $0 == .lost }.count))
        try await scene.settle(attemptsSince: fault)
    }

    /// What would grow if something leaked.
    private struct Usage: Equatable, CustomStringConvertible {
        let transports: Int
        let sessions: Int
        let subscriptions: Int

        init(_ gateway: GatewayProcess) async throws {
            self.transports = try await gateway.transports
            self.sessions = Int(try await gateway.metricSum("holdfast_sessions"))
            self.subscriptions = Int(try await gateway.metric("holdfast_subscriptions"))
        }

        var description: String {
            "\(self.transports) transports, \(self.sessions) sessions, \(self.subscriptions) subscriptions"
        }
    }

    // MARK: F19

    private static let handshakeTime = 10.0
    private static let manyConnections = 10_000
    /// Below that it would be no flood.
    private static let leastConnections = 1000
    /// Descriptors that this process needs for itself.
    private static let reserve = 400

    private static func unfinished(_ stage: Stage) async throws {
        let limit = DescriptorLimit.raised()
        let count = min(Self.manyConnections, limit - Self.reserve)
        guard count >= Self.leastConnections else {
            throw DrillError("only \(limit) files may be open here, and 1,400 are needed: raise `ulimit -n`")
        }
        if count < Self.manyConnections {
            stage.note("\(count) connections, since only \(limit) files may be open here")
        }
        let scene = try await Scene.make(stage)
        guard let gateway = scene.target.gateway else { throw DrillError.notRun("it needs a gateway of our own") }
        try await scene.begin()
        let fault = stage.clock.now
        var opened: [RawConnection] = []
        for number in 0..<count {
            if number % 500 == 0 { stage.say("\(number) of \(count) connections") }
            guard let connection = try? await RawConnection.open(port: gateway.port) else { continue }
            // Half of them say nothing at all, half begin to.
            if number % 2 == 0 { await connection.send(ByteBuffer(string: "GET /socket HTTP/1.1\r\nHost: x\r\nUpgr")) }
            opened.append(connection)
        }
        let all = opened
        stage.atEnd { for connection in all { await connection.close() } }
        let lastOpened = stage.clock.now
        stage.note("\(opened.count) of \(count) connections were accepted, in \((lastOpened - fault).tenths) s")
        stage.say("a new client beside them")
        let newcomer = stage.client()
        try await newcomer.connect(url: Target(gateway).url(through: gateway.port), subscription: stage.subscription)
        let welcome = try await wait(stage.clock, until: lastOpened + 20) { newcomer.log.first { $0 == .ready } }
        stage.change { $0.backAfter = welcome.map { $0 - lastOpened } }
        stage.check(.within(5, "a new client subscribed after", welcome.map { $0 - lastOpened }, observed: 20))
        stage.say("waiting for their end")
        let deadline = lastOpened + Self.handshakeTime + 2
        while all.contains(where: { !$0.isClosed }), stage.clock.now < deadline + 10 {
            try await pass(stage.clock, until: stage.clock.now + 0.2)
        }
        let left = all.filter { !$0.isClosed }.count
        stage.check(.atMost(0, "of them still open", left))
        stage.check(
            .within(
                Self.handshakeTime + 2, "all closed after", left == 0 ? stage.clock.now - lastOpened : nil, observed: 22
            ))
        stage.check(.atMost(0, "lines given up beside them", scene.log.times(since: fault) { $0 == .lost }.count))
        try await stage.settle([scene.client, newcomer], scene.publisher, allowsGaps: false)
    }

    // MARK: F20

    private static let files = 200
    private static let extra = 400

    private static func descriptors(_ stage: Stage) async throws {
        let gateway = try await stage.gateway("the gateway", files: Self.files)
        let target = Target(gateway)
        let scene = Scene(
            stage: stage, target: target, proxy: try await stage.proxy(to: target), client: stage.client(),
            publisher: try stage.publisher(to: [target.url]))
        try await scene.begin()
        let fault = stage.clock.now
        stage.say("its descriptors run out")
        var opened: [RawConnection] = []
        for _ in 0..<Self.extra {
            guard let connection = try? await RawConnection.open(port: gateway.port) else { continue }
            opened.append(connection)
        }
        let said = try await wait(stage.clock, until: fault + 20) { () -> String? in
            gateway.lastErrors.first { line in
                ["descriptor", "EMFILE", "too many open files", "open files"].contains {
                    line.lowercased().contains($0.lowercased())
                }
            }
        }
        stage.check(
            .holds("the log says that descriptors ran out", said != nil, said.map { String($0.prefix(120)) } ?? "no"))
        for connection in opened { await connection.close() }
        let end = stage.clock.now
        stage.say("there is room again")
        let newcomer = stage.client()
        try await newcomer.connect(url: target.url(through: gateway.port), subscription: stage.subscription)
        let welcome = try await wait(stage.clock, until: end + 30) { newcomer.log.first { $0 == .ready } }
        stage.change { $0.backAfter = welcome.map { $0 - end } }
        stage.check(.within(5, "a new client subscribed after", welcome.map { $0 - end }, observed: 30))
        stage.check(.holds("the gateway still runs", gateway.isRunning, gateway.isRunning ? "yes" : "no"))
        stage.check(.atMost(0, "lines given up", scene.log.times(since: fault) { $0 == .lost }.count))
        try await stage.settle([scene.client, newcomer], scene.publisher, allowsGaps: false)
    }
}

/// How many files this process may have open.
enum DescriptorLimit {
    #if canImport(Glibc)
    // Glibc's header gives the constant another type than its functions take.
    private static let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
    private static let files = RLIMIT_NOFILE
    #endif

    /// Raises it as far as the system allows. - Returns: what it is then.
    static func raised() -> Int {
        var limit = rlimit()
        guard getrlimit(Self.files, &limit) == 0 else { return 0 }
        limit.rlim_cur = limit.rlim_max
        // What is refused leaves the limit as it was.
        _ = setrlimit(Self.files, &limit)
        guard getrlimit(Self.files, &limit) == 0 else { return 0 }
        return Int(clamping: limit.rlim_cur)
    }
}
