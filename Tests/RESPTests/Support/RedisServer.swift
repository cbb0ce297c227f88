import Foundation
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

@testable import RESP

/// A redis-server of a test's own, in a directory of its own.
final class RedisServer: Sendable {
    static let path = "/usr/bin/redis-server"

    let port: Int
    let directory: String
    private let arguments: [String]
    private let process = NIOLockedValueBox<Process?>(nil)

    var address: RESPServerAddress { .hostname("127.0.0.1", port: self.port) }
    var socketAddress: RESPServerAddress { .unixDomainSocket(path: "\(self.directory)/redis.sock") }

    private init(directory: String, port: Int, arguments: [String]) {
        self.directory = directory
        self.port = port
        self.arguments = arguments
    }

    /// Runs while the body runs.
    static func with(_ arguments: [String] = [], _ body: (RedisServer) async throws -> Void) async throws {
        try await withTemporaryDirectory { directory in
            let server = RedisServer(directory: directory, port: try await Self.freePort(), arguments: arguments)
            defer { server.kill() }
            try await server.start()
            try await body(server)
        }
    }

    /// Not one that the system gives to connections (from 32768 on): a client that tries to reach a server that is down
    /// could come to speak with itself, and keep the port from the server.
    static func freePort() async throws -> Int {
        for _ in 0..<100 {
            let port = Int.random(in: 20_000..<32_000)
            let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            guard let channel = try? await bootstrap.bind(host: "127.0.0.1", port: port).get() else { continue }
            try await channel.close().get()
            return port
        }
        throw TestFailure("no free port")
    }

    func start() async throws {
        guard FileManager.default.isExecutableFile(atPath: Self.path) else {
            throw TestFailure("\(Self.path) is missing; install redis-server")
        }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.path)
        process.arguments =
            [
                "--port", "\(self.port)", "--bind", "127.0.0.1", "--dir", self.directory, "--save", "",
                "--appendonly", "no", "--unixsocket", "\(self.directory)/redis.sock", "--daemonize", "no",
            ] + self.arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        let text = NIOLockedValueBox("")
        output.fileHandleForReading.readabilityHandler = { handle in
            let data = handle.availableData
            if data.isEmpty { handle.readabilityHandler = nil }
            text.withLockedValue { $0 += String(decoding: data, as: UTF8.self) }
        }
        try process.run()
        self.process.withLockedValue { $0 = process }
        try await eventually("redis-server is ready") {
            text.withLockedValue { $0.contains("Ready to accept connections") } || !process.isRunning
        }
        guard process.isRunning else { throw TestFailure("redis-server ended: \(text.withLockedValue { $0 })") }
    }

    /// Ends the process at once, also a frozen one.
    func kill() {
        guard let process = self.process.withLockedValue({ $0 }) else { return }
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        self.process.withLockedValue { $0 = nil }
    }

    func freeze() { self.signal(SIGSTOP) }

    func thaw() { self.signal(SIGCONT) }

    private func signal(_ number: Int32) {
        guard let process = self.process.withLockedValue({ $0 }) else { return }
        Foundation.kill(process.processIdentifier, number)
    }
}

/// A directory of a test's own. Its path is short, for that of a unix socket has at most 107 bytes.
func withTemporaryDirectory(_ body: (String) async throws -> Void) async throws {
    let directory = "/tmp/holdfast-resp-\(UInt32.random(in: 0...UInt32.max))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try await body(directory)
}
