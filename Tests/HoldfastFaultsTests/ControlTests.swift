import Foundation
import NIOCore
import Testing

@testable import HoldfastFaults

@Suite("The control API of a fault proxy", .timeLimit(.minutes(1)))
struct ControlTests {
    private func ask(
        _ api: ControlAPI, _ method: String, _ target: String, _ body: String = "", host: String? = "127.0.0.1:9",
        origin: String? = nil
    ) async -> (status: Int, text: String, answer: ControlAnswer) {
        let request = ControlRequest(
            method: method, target: target, host: host, origin: origin, body: Data(body.utf8))
        let answer = await api.answer(request)
        return (answer.status, String(decoding: answer.body, as: UTF8.self), answer)
    }

    private func withAPI(
        origins: [String] = [], _ body: (ControlAPI, Connected) async throws -> Void
    ) async throws {
        let log = EventLog()
        var settings = FaultProxy.Configuration.toTestServer
        settings.onEvent = { log.add($0) }
        try await withConnection(settings) { it in
            try await body(ControlAPI(proxy: it.proxy, log: log, origins: origins), it)
        }
    }

    @Test func faultsAreReplacedMergedAndRead() async throws {
        try await self.withAPI { api, it in
            #expect(await self.ask(api, "PUT", "/faults", #"{"latency-ms":300,"jitter-ms":100}"#).status == 200)
            #expect(await it.proxy.faults.latencyMs == 300)
            let merged = await self.ask(api, "PATCH", "/faults", #"{"upgrades":"502"}"#)
            #expect(merged.status == 200 && merged.text.contains(#""latency-ms":300"#))
            #expect(await it.proxy.faults.upgrades == .answer(status: 502))
            #expect(await self.ask(api, "PUT", "/faults", #"{"drip-bytes":1}"#).status == 200)
            let now = await self.ask(api, "GET", "/faults").text
            let read = try JSONDecoder().decode(Faults.self, from: Data(now.utf8))
            #expect(await it.proxy.faults == read)
            #expect(now.contains(#""latency-ms":0"#) && now.contains(#""drip-bytes":1"#))
        }
    }

    @Test func deeds() async throws {
        try await self.withAPI { api, it in
            let cut = await self.ask(
                api, "POST", "/cut", #"{"directions":"to-client","packets":"delayed","reach":"existing"}"#)
            #expect(cut.status == 200 && cut.text.contains(#""cut":"to-client""#))
            #expect(await it.proxy.faults.cutPackets == .delayed)
            #expect(await it.proxy.faults.cutReach == .existingConnections)
            #expect(await self.ask(api, "POST", "/restore").status == 200)
            #expect(await it.proxy.faults.isNone)
            #expect(await self.ask(api, "POST", "/cut").text.contains(#""cut":"both""#))
            #expect(await self.ask(api, "POST", "/clear", "{}").status == 200)
            #expect(
                await self.ask(api, "POST", "/half-close", #"{"directions":"to-client"}"#).text.contains(
                    #""connections":1"#))
            try await eventually("a FIN") { it.client.heard.end == .finish }
            #expect(await self.ask(api, "POST", "/reset", #"{"which":"newest"}"#).text.contains(#""connections":1"#))
            try await eventually("a RST") { it.accepted.heard.end == .reset }
            #expect(await self.ask(api, "POST", "/close-all").text.contains(#""connections":0"#))
        }
    }

    @Test func statisticsFieldsAndEvents() async throws {
        try await self.withAPI { api, it in
            try await it.client.send("abc")
            try await eventually("counted") {
                await self.ask(api, "GET", "/statistics").text.contains(#""bytes-to-server":3"#)
            }
            let fields = await self.ask(api, "GET", "/fields").text
            #expect(FaultField.all.allSatisfy { fields.contains("\"\($0.name)\"") })
            await it.proxy.cut()
            let events = await self.ask(api, "GET", "/events?after=1").text
            #expect(events.contains(#""text":"cut both, packets lost""#) && !events.contains(#""number":1,"#))
            #expect(await self.ask(api, "GET", "/").text.contains("<!doctype html>"))
        }
    }

    @Test(arguments: [
        ("PUT", "/faults", #"{"latncy-ms":1}"#, 400, #"there is no fault \"latncy-ms\": did you mean \"latency-ms\"?"#),
        ("PUT", "/faults", #"{"latency-ms":-1}"#, 400, "from 0 to 60000"),
        ("PUT", "/faults", "{", 400, "the body must be a JSON object"),
        ("PUT", "/faults", "", 400, "the body must be a JSON object"),
        ("PUT", "/faults", "[]", 400, "faults are an object"),
        ("PATCH", "/faults", #"{"jitter-ms":1}"#, 400, "jitter-ms must be at most latency-ms"),
        ("POST", "/cut", #"{"directions":"none"}"#, 400, "directions must be one of both, to-server, to-client"),
        (
            "POST", "/cut", #"{"direction":"both"}"#, 400,
            #"there is no \"direction\" here: did you mean \"directions\"?"#
        ),
        ("POST", "/cut", #"{"packets":5}"#, 400, "the body must be a JSON object of strings"),
        ("POST", "/reset", #"{"which":"oldest"}"#, 400, #"which must be one of all, newest; it is \"oldest\""#),
        ("POST", "/restore", #"{"x":"y"}"#, 400, "there is nothing to say here"),
        ("POST", "/half-close", "", 400, "directions must be said"),
        ("GET", "/nothing", "", 404, "GET /faults"),
        ("DELETE", "/faults", "", 405, "/faults takes GET, PUT, PATCH, not DELETE"),
    ])
    func mistakes(method: String, path: String, body: String, status: Int, error: String) async throws {
        try await self.withAPI { api, it in
            let answer = await self.ask(api, method, path, body)
            #expect(answer.status == status && answer.text.contains(error), "\(answer.text)")
            let json = try JSONDecoder().decode([String: String].self, from: answer.answer.body)
            #expect(json["error"] != nil)
            #expect(await it.proxy.faults.isNone)
        }
    }

    @Test(arguments: [
        ("127.0.0.1", true), ("127.0.0.1:80", true), ("[::1]:80", true), ("localhost", true), ("LocalHost:80", true),
        ("evil.example", false), ("evil.example:80", false), ("localhost.evil.example", false), ("", false),
        ("127.0.0.1.evil.example", false), ("[::1", false),
    ])
    func onlyAddressesAreHosts(host: String, isAllowed: Bool) async throws {
        try await self.withAPI { api, it in
            #expect(await self.ask(api, "POST", "/cut", host: host).status == (isAllowed ? 200 : 421))
            #expect(await it.proxy.faults.isNone != isAllowed)
        }
    }

    @Test func withoutAHostNothingIsDone() async throws {
        try await self.withAPI { api, _ in
            #expect(await self.ask(api, "GET", "/faults", host: nil).status == 421)
        }
    }

    @Test func otherOriginsOnlyWhenAsked() async throws {
        let page = "http://127.0.0.1:3000"
        try await self.withAPI(origins: [page]) { api, it in
            #expect(await self.ask(api, "POST", "/cut", origin: "http://evil.example").status == 403)
            #expect(await self.ask(api, "OPTIONS", "/cut", origin: "http://evil.example").status == 403)
            #expect(await self.ask(api, "POST", "/cut", origin: "null").status == 403)
            #expect(await it.proxy.faults.isNone)
            let allowed = await self.ask(api, "POST", "/cut", origin: page)
            #expect(
                allowed.status == 200 && allowed.answer.headers.contains { $0 == ("Access-Control-Allow-Origin", page) }
            )
            let preflight = await self.ask(api, "OPTIONS", "/faults", origin: page)
            #expect(
                preflight.status == 204 && preflight.answer.headers.contains { $0.0 == "Access-Control-Allow-Methods" })
            let own = await self.ask(api, "POST", "/restore", origin: "http://127.0.0.1:9")
            #expect(own.status == 200 && !own.answer.headers.contains { $0.0.hasPrefix("Access-Control") })
        }
    }

    @Test func theLogIsBounded() {
        let log = EventLog()
        for number in 1...EventLog.limit + 5 { log.add(FaultProxy.Event(text: "\(number)")) }
        #expect(log.entries(after: 0).map(\.text).first == "6")
        #expect(log.entries(after: EventLog.limit + 4).map(\.number) == [EventLog.limit + 5])
    }

    // MARK: On a socket

    @Test func overHTTPWithPipeliningAndLimits() async throws {
        try await withConnection { it in
            let control = try await FaultControl.start(of: it.proxy, log: EventLog())
            let socket = try await TestSocket.connect(to: control.port)
            let host = "Host: 127.0.0.1:\(control.port)\r\n"
            try await socket.send("POST /cut HTTP/1.1\r\n\(host)\r\nPOST /restore HTTP/1.1\r\n\(host)\r\n")
            try await eventually("two answers") {
                socket.heard.text.components(separatedBy: "HTTP/1.1 200 OK").count == 3
            }
            #expect(await it.proxy.faults.isNone)
            let body = String(repeating: " ", count: 65_537)
            try await socket.send("PUT /faults HTTP/1.1\r\n\(host)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
            try await eventually("refused") { socket.heard.text.contains("HTTP/1.1 413 ") }
            try await socket.send("GET /faults HTTP/1.1\r\n\(host)Connection: close\r\n\r\n")
            try await eventually("closed when asked") { socket.heard.end == .finish }
            await socket.close()
            await control.shutdown()
        }
    }
}
