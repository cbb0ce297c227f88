import HoldfastFaults
import NIOCore
import Testing

/// Those that need a look into HTTP, on real sockets.
@Suite("Fault proxy: faults of proxies that understand HTTP", .timeLimit(.minutes(1)))
struct FaultProxyHTTPFaultsTests {
    @Test(arguments: [200, 400, 404, 426, 501, 502]) func anUpgradeIsAnswered(status: Int) async throws {
        try await withFaults {
            $0.upgrades = .answer(status: status)
        } _: { it in
            try await it.client.send(MiddleboxTests.upgrade)
            try await eventually("answered") { it.client.heard.text.hasSuffix("says the fault proxy\n") }
            #expect(it.client.heard.text.hasPrefix("HTTP/1.1 \(status) "))
            try await it.client.send(MiddleboxTests.get)
            try await eventually("others pass") { it.accepted.heard.text == MiddleboxTests.get }
            #expect(await it.proxy.statistics.upgradesRefused == 1)
        }
    }

    @Test func anUpgradeHangs() async throws {
        try await withFaults {
            $0.upgrades = .hang
        } _: { it in
            try await it.client.send(MiddleboxTests.upgrade)
            try await eventually("taken") { await it.proxy.statistics.upgradesRefused == 1 }
            #expect(it.client.heard == .nothing && it.accepted.heard == .nothing)
        }
    }

    @Test func anUpgradeIsReset() async throws {
        try await withFaults {
            $0.upgrades = .reset
        } _: { it in
            try await it.client.send(MiddleboxTests.upgrade)
            try await eventually("reset") { it.client.heard.end == .reset && it.accepted.heard.end == .reset }
            #expect(it.accepted.heard.text == "")
        }
    }

    @Test func silenceAfterTheUpgrade() async throws {
        try await withFaults {
            $0.upgrades = .silent
        } _: { it in
            try await upgrade(it)
            try await it.client.send("hello?")
            try await it.accepted.send("hello!")
            try await it.accepted.finish()
            try await eventually("all lost") {
                let now = await it.proxy.statistics
                return now.bytesSwallowedToServer == 6 && now.bytesSwallowedToClient == 6 && now.endsSwallowed == 1
            }
            #expect(it.client.heard == Heard(bytes: ByteBuffer(string: MiddleboxTests.switching)))
        }
    }

    @Test func oneWayAfterTheUpgrade() async throws {
        try await withFaults {
            $0.upgrades = .onlyToServer
        } _: { it in
            try await upgrade(it)
            try await it.accepted.send("unheard")
            try await it.client.send("heard")
            try await eventually("heard") { it.accepted.heard.text == MiddleboxTests.upgrade + "heard" }
            try await eventually("lost") { await it.proxy.statistics.bytesSwallowedToClient == 7 }
        }
    }

    @Test func onlyUpgradesAreSlow() async throws {
        try await withFaults {
            $0.traffic = .upgrades
            $0.latencyMs = 60_000
        } _: { it in
            try await upgrade(it)
            try await it.accepted.send("held")
            try await eventually("held") { await it.proxy.statistics.bytesHeld == 4 }
            let plain = try await TestSocket.connect(to: it.proxy.port)
            try await plain.send(MiddleboxTests.get)
            try await eventually("others are not") { it.server.accepted.last?.heard.text == MiddleboxTests.get }
            await plain.close()
        }
    }

    @Test func aStreamIsBuffered() async throws {
        try await withFaults {
            $0.bufferBytes = 4_096
        } _: { it in
            try await it.client.send(MiddleboxTests.get)
            try await eventually("asked") { it.accepted.heard.text == MiddleboxTests.get }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            try await it.accepted.send(head + "data: 1\n\n")
            try await it.client.send(MiddleboxTests.get)
            try await eventually("the other way goes on") {
                it.accepted.heard.text == MiddleboxTests.get + MiddleboxTests.get
            }
            #expect(it.client.heard == .nothing)
            try await it.accepted.finish()
            try await eventually("its end lets it go") {
                it.client.heard == Heard(bytes: ByteBuffer(string: head + "data: 1\n\n"), end: .finish)
            }
        }
    }

    @Test func aRequestReachesTheServerTwice() async throws {
        try await withFaults {
            $0.duplicateRequests = true
        } _: { it in
            try await it.client.send(MiddleboxTests.get)
            try await eventually("twice") {
                it.server.accepted.count == 2 && it.server.accepted[1].heard.text == MiddleboxTests.get
            }
            #expect(it.accepted.heard.text == MiddleboxTests.get)
            try await it.server.accepted[1].send(MiddleboxTests.ok)
            try await eventually("the second answer ends the copy") { it.server.accepted[1].heard.end != nil }
            try await it.accepted.send(MiddleboxTests.ok)
            try await eventually("the first answer is heard") { it.client.heard.text == MiddleboxTests.ok }
            #expect(await it.proxy.statistics.requestsDuplicated == 1)
        }
    }

    @Test func aCutHoldsDuplicatesBackToo() async throws {
        try await withFaults {
            $0.duplicateRequests = true
            $0.cut = .toServer
        } _: { it in
            try await it.client.send(MiddleboxTests.get)
            try await eventually("lost") {
                await it.proxy.statistics.bytesSwallowedToServer == MiddleboxTests.get.utf8.count
            }
            #expect(await it.proxy.statistics.requestsDuplicated == 0)
        }
    }

    @Test func aByteBehindTheHandshakeIsCorrupted() async throws {
        try await withFaults {
            $0.traffic = .upgrades
            $0.corrupt = .toClient
        } _: { it in
            try await upgrade(it)
            try await it.accepted.send("aa")
            try await eventually("the first behind it") { it.client.heard.text == MiddleboxTests.switching + "`a" }
        }
    }
}

private func upgrade(_ it: Connected) async throws {
    try await it.client.send(MiddleboxTests.upgrade)
    try await eventually("asked") { it.accepted.heard.text == MiddleboxTests.upgrade }
    try await it.accepted.send(MiddleboxTests.switching)
    try await eventually("upgraded") { it.client.heard.text == MiddleboxTests.switching }
}
