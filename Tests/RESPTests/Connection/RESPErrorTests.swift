import Logging
import NIOCore
import Testing

@testable import RESP

struct RESPErrorTests {
    @Test func serverErrors() {
        for (message, kind, isRetriable) in [
            ("LOADING Redis is loading", "LOADING", true), ("NOPERM no", "NOPERM", false), ("ERR", "ERR", false),
            ("MASTERDOWN Link", "MASTERDOWN", true), ("", "", false),
        ] {
            let error = RESPError(.commandError, message)
            #expect(error.serverErrorKind == kind[...] && error.isRetriable == isRetriable)
        }
        #expect(RESPError(.connectionClosed, "LOADING x").serverErrorKind == nil)
        #expect(RESPError(.notConnected, "").isRetriable && !RESPError(.stopped, "").isRetriable)
        #expect("\(RESPError(.stopped, "a b"))" == "a b")
    }

    @Test func addresses() {
        #expect("\(RESPServerAddress.hostname("redis"))" == "redis:6379")
        #expect("\(RESPServerAddress.hostname("::1", port: 1))" == "[::1]:1")
        #expect("\(RESPServerAddress.unixDomainSocket(path: "/a/b"))" == "/a/b")
    }

    /// Everything that is logged, with everything that goes wrong.
    @Test func secretsAreNotLogged() async throws {
        let lines = Log<String>()
        let logger = Logger(label: "test") { _ in RecordingHandler(lines: lines) }
        for answer in ["-WRONGPASS alice s3cret\r\n", "-ERR unknown command `HELLO` `alice` `s3cret`\r\n", "+OK\r\n"] {
            try await FakeServer { _ in answer }.use { server in
                let before = lines.events.count
                let link = RESPLink(
                    address: server.address,
                    configuration: .init(authentication: .init(username: "alice", password: "s3cret")),
                    backoff: .init(base: 0.001, cap: 0.001), eventLoop: anyLoop(), logger: logger
                ) { lines.add("\($0)") }
                link.start()
                try await lines.wait(from: before + 4, "some tries") { _ in true }
                try await link.stop().get()
            }
        }
        #expect(!lines.events.contains { $0.contains("s3cret") || $0.contains("alice") }, "\(lines.events)")
    }
}

private struct RecordingHandler: LogHandler {
    let lines: Log<String>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    init(lines: Log<String>) { self.lines = lines }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        self.lines.add("\(event.message) \(event.metadata ?? [:])")
    }
}
