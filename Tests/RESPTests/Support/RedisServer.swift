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

    /// - Parameter arguments: made from the server's directory.
    static func with(
        _ arguments: (String) throws -> [String] = { _ in [] },
        _ body: (RedisServer) async throws -> Void
    ) async throws {
        // Short, for the path of a unix socket has at most 107 bytes.
        let directory = "/tmp/holdfast-resp-\(UInt32.random(in: 0...UInt32.max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let server = RedisServer(
            directory: directory, port: try await Self.freePort(), arguments: try arguments(directory))
        try await server.start()
        do {
            try await body(server)
        } catch {
            server.kill()
            throw error
        }
        server.kill()
    }

    /// A server that is not there any more leaves its port free.
    private static func freePort() async throws -> Int {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = channel.localAddress?.port
        try await channel.close().get()
        guard let port else { throw TestFailure("no free port") }
        return port
    }

    func start() async throws {
        guard FileManager.default.isExecutableFile(atPath: Self.path) else {
            throw TestFailure("\(Self.path) is missing; install redis-server")
        }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.path)
        process.arguments =
            [
                "--port", "\(self.port)", "--bind", "127.0.0.1", "--dir", self.directory, "--save", "", "--appendonly", "no",
                "--unixsocket", "\(self.directory)/redis.sock", "--daemonize", "no",
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
