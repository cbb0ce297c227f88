import Foundation

/// F12: Redis goes.
extension Drill {
    static let redis: [Drill] = [
        Drill(
            "f12-killed", "Redis killed and restarted",
            does: "kill -9 of the Redis that the gateway listens to, and 5 s later a restart. Clients stay "
                + "connected, /ready is not 200 meanwhile, and what is lost (Pub/Sub keeps nothing) is told as a "
                + "gap.",
            needs: [.ownGateway, .redis], run: { try await Self.redisLost($0, Self.killRedis) }),
        Drill(
            "f12-frozen", "Redis frozen for 20 s",
            does: "The same with a Redis that is stopped (SIGSTOP) for 20 s and goes on.",
            needs: [.ownGateway, .redis], run: { try await Self.redisLost($0, Self.freezeRedis) }),
        Drill(
            "f12-failover", "failover to a replica",
            does: "The same: the master is killed, and 2 s later the address leads to its replica, which has become "
                + "the master.",
            needs: [.ownGateway, .redis], run: { try await Self.redisLost($0, Self.failOver) }),
    ]

    private typealias Break = @Sendable (Redises) async throws -> Void

    private struct Redises: Sendable {
        let stage: Stage
        let master: RedisProcess
        let replica: RedisProcess
        let junction: Junction
    }

    private static func killRedis(_ redis: Redises) async throws {
        await redis.master.kill()
        try await pass(redis.stage.clock, until: redis.stage.clock.now + 5)
        try await redis.master.restart()
    }

    private static func freezeRedis(_ redis: Redises) async throws {
        redis.master.signal(SIGSTOP)
        try await pass(redis.stage.clock, until: redis.stage.clock.now + 20)
        redis.master.signal(SIGCONT)
    }

    private static func failOver(_ redis: Redises) async throws {
        await redis.master.kill()
        try await pass(redis.stage.clock, until: redis.stage.clock.now + 2)
        try await redis.replica.command("REPLICAOF NO ONE")
        redis.junction.lead(to: redis.replica.port)
    }

    /// Seconds that the gateway has to be ready again.
    private static let readyLimit = 10.0

    private static func redisLost(_ stage: Stage, _ breakIt: Break) async throws {
        let master = try await RedisProcess.start(stage, "Redis")
        let replica = try await RedisProcess.start(stage, "the replica")
        try await replica.command("REPLICAOF 127.0.0.1 \(master.port)")
        let junction = try await Junction.start(to: master.port)
        stage.atEnd { await junction.shutdown() }
        let gateway = try await stage.gateway(
            "the gateway", ["HOLDFAST_REDIS_HOST": "127.0.0.1", "HOLDFAST_REDIS_PORT": "\(junction.port)"])
        let target = Target(gateway)
        let scene = Scene(
            stage: stage, target: target, proxy: try await stage.proxy(to: target), client: stage.client(),
            publisher: try stage.publisher(to: [target.url]))
        try await scene.begin()
        stage.say("Redis is away")
        let fault = stage.clock.now
        let unready = Task { try await Self.readyChanges(gateway, stage.clock, to: false, until: fault + 25) }
        try await breakIt(Redises(stage: stage, master: master, replica: replica, junction: junction))
        let end = stage.clock.now
        stage.say("Redis is back")
        let unreadyAt = try await unready.value
        let readyAt = try await Self.readyChanges(gateway, stage.clock, to: true, until: end + 30)
        stage.change { $0.noticedAfter = unreadyAt.map { $0 - fault } }
        stage.check(.holds("/ready was not 200 meanwhile", unreadyAt != nil, unreadyAt == nil ? "no" : "yes"))
        stage.check(
            .within(Self.readyLimit, "/ready is 200 again after", readyAt.map { max(0, $0 - end) }, observed: 30))
        try await scene.back(since: end, within: 30)
        try await scene.awaitEvents(10, within: 20)
        stage.check(.atMost(0, "lines given up by the client", scene.log.times(since: fault) { $0 == .lost }.count))
        try await scene.settle(attemptsSince: fault, allowsGaps: true)
        stage.check(.atLeast(1, "gaps told", scene.log.times(since: fault) { $0.isGap }.count))
    }

    private static func readyChanges(_ gateway: GatewayProcess, _ clock: DrillClock, to isReady: Bool, until: Double)
        async throws
        -> Double?
    {
        while clock.now < until {
            let status = try await gateway.get("/ready").status
            if (status == 200) == isReady { return clock.now }
            try await pass(clock, until: clock.now + 0.1)
        }
        return nil
    }
}

/// A `redis-server` of our own that stores nothing.
final class RedisProcess: Sendable {
    let port: Int
    private let name: String
    private let executable: String
    private let folder: URL
    private let child: ProcessBox

    private static let startDeadline = 10.0

    static func start(_ stage: Stage, _ name: String) async throws -> RedisProcess {
        guard let executable = Programs.path(of: "redis-server") else {
            throw DrillError.notRun("redis-server is not on PATH")
        }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "holdfast-drill-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let redis = RedisProcess(name, executable, folder, port: try await FreePort.take())
        stage.atEnd {
            await redis.kill()
            // What is left of it is the system's to clean up.
            try? FileManager.default.removeItem(at: folder)
        }
        try await redis.restart()
        return redis
    }

    private init(_ name: String, _ executable: String, _ folder: URL, port: Int) {
        self.name = name
        self.executable = executable
        self.folder = folder
        self.port = port
        self.child = ProcessBox()
    }

    func restart() async throws {
        let child = try ChildProcess(
            self.name, self.executable,
            [
                "--port", "\(self.port)", "--bind", "127.0.0.1", "--dir", self.folder.path, "--save", "",
                "--appendonly", "no",
            ],
            environment: ChildProcess.environment(adding: [:]), onLine: { _ in })
        self.child.set(child)
        let answered = try await wait(DrillClock(), until: Self.startDeadline) { () -> Bool? in
            try? await self.command("PING")
        }
        guard answered != nil else { throw DrillError("\(self.name) did not answer in \(Self.startDeadline.tenths) s") }
    }

    func kill() async { await self.child.value?.kill() }

    func signal(_ number: Int32) { self.child.value?.signal(number) }

    /// An inline command without arguments that need quoting.
    /// - Throws: ``DrillError`` if it is not answered with `+`.
    @discardableResult
    func command(_ text: String) async throws -> Bool {
        let connection = try await RawConnection.open(port: self.port)
        await connection.send(.init(string: text + "\r\n"))
        let answered = try await connection.wait(seconds: 5) { $0.readableBytes > 2 }
        let answer = String(buffer: connection.received)
        await connection.close()
        guard answered, answer.hasPrefix("+") else { throw DrillError("\(self.name): \(text): \(answer.prefix(100))") }
        return true
    }
}
