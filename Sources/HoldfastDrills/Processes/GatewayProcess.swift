import AsyncHTTPClient
import Foundation
import HoldfastProtocol
import NIOCore
import NIOHTTP1
import Synchronization

/// A gateway of our own: `serve --dev` in a child process, on a port that it keeps when it is started again.
final class GatewayProcess: Sendable {
    /// How long a gateway may take to listen, in seconds.
    static let startDeadline = 20.0

    let name: String
    let port: Int
    private let executable: String
    private let environment: [String: String]
    private let files: Int?
    private let child: Mutex<ChildProcess>

    /// - Parameter environment: settings of the gateway, as `HOLDFAST_…`.
    static func start(
        _ name: String,
        executable: String,
        environment: [String: String] = [:],
        files: Int? = nil
    ) async throws -> GatewayProcess {
        let (child, port) = try await Self.launch(name, executable, environment, files, port: 0)
        return GatewayProcess(name, executable, environment, files, child, port)
    }

    private init(
        _ name: String, _ executable: String, _ environment: [String: String], _ files: Int?, _ child: ChildProcess,
        _ port: Int
    ) {
        self.name = name
        self.executable = executable
        self.environment = environment
        self.files = files
        self.child = Mutex(child)
        self.port = port
    }

    private static func launch(
        _ name: String, _ executable: String, _ environment: [String: String], _ files: Int?, port: Int
    ) async throws -> (ChildProcess, Int) {
        let said = SharedPort()
        let child = try ChildProcess(
            name, executable, ["serve", "--dev", "--port", "\(port)"],
            environment: ChildProcess.environment(adding: environment), files: files
        ) { line in
            guard case .text(let text)? = line, text.hasPrefix("listening on ") else { return }
            said.set(text.split(separator: ":").last.flatMap { Int($0) })
        }
        let found = try await wait(DrillClock(), until: Self.startDeadline) { () -> Int? in
            if let port = said.port { return port }
            return child.isRunning ? nil : 0
        }
        guard let found, found > 0 else {
            await child.kill()
            let words = child.lastErrors.suffix(3).joined(separator: " / ")
            throw DrillError("\(name) did not start to listen in \(Self.startDeadline.tenths) s: \(words)")
        }
        return (child, found)
    }

    private final class SharedPort: Sendable {
        private let value = Mutex<Int?>(nil)
        var port: Int? { self.value.withLock { $0 } }
        func set(_ port: Int?) { self.value.withLock { $0 = port } }
    }

    private var current: ChildProcess { self.child.withLock { $0 } }

    var isRunning: Bool { self.current.isRunning }
    var lastErrors: [String] { self.current.lastErrors }

    /// `kill -9`.
    func kill() async { await self.current.kill() }

    func signal(_ number: CInt) { self.current.signal(number) }

    func ended(within seconds: Double) async throws -> Bool { try await self.current.ended(within: seconds) }

    /// Again, on the same port. It must have ended.
    func restart() async throws {
        let (child, _) = try await Self.launch(
            self.name, self.executable, self.environment, self.files, port: self.port)
        self.child.withLock { $0 = child }
    }

    // MARK: What it says of itself

    func get(_ path: String, timeout: TimeAmount = .seconds(5)) async throws -> (status: Int, body: ByteBuffer) {
        let request = HTTPClientRequest(url: "http://127.0.0.1:\(self.port)\(path)")
        let response = try await HTTPClient.shared.execute(request, timeout: timeout)
        return (Int(response.status.code), try await response.body.collect(upTo: 1 << 24))
    }

    /// A figure of the metrics page.
    /// - Parameter name: with its labels, if it has any.
    /// - Throws: ``DrillError`` if there is no such figure.
    func metric(_ name: String) async throws -> Double {
        let page = String(buffer: try await self.get("/metrics").body)
        let line = page.split(separator: "\n").first { $0.hasPrefix(name + " ") }
        guard let value = line.flatMap({ $0.split(separator: " ").last }).flatMap({ Double($0) }) else {
            throw DrillError("/metrics of \(self.name) has no \(name)")
        }
        return value
    }

    /// The sum of a figure over all its labels.
    func metricSum(_ name: String, where isWanted: (Substring) -> Bool = { _ in true }) async throws -> Double {
        let page = String(buffer: try await self.get("/metrics").body)
        return page.split(separator: "\n")
            .filter { ($0.hasPrefix(name + "{") || $0.hasPrefix(name + " ")) && isWanted($0) }
            .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }
            .reduce(0, +)
    }

    /// Lines that carry something now, whatever their kind.
    var transports: Int {
        get async throws { Int(try await self.metricSum("holdfast_transports")) }
    }
}
