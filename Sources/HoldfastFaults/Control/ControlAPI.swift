import Foundation
import NIOCore

/// What the control server answers to each request. Knows no sockets.
struct ControlAPI: Sendable {
    /// Bytes of a body.
    static let bodyLimit = 65_536

    let proxy: FaultProxy
    let log: EventLog
    /// Pages that may use it besides its own: `http://127.0.0.1:3000`.
    let origins: [String]

    private struct Route {
        let method: String
        let path: String
        let answer: (ControlAPI, ControlRequest) async throws -> ControlAnswer
    }

    func answer(_ request: ControlRequest) async -> ControlAnswer {
        if let refusal = self.refusal(request) { return refusal }
        var answer = request.method == "OPTIONS" ? ControlAnswer(status: 204) : await self.routed(request)
        if let origin = request.origin, self.origins.contains(origin) {
            answer.headers += [
                ("Access-Control-Allow-Origin", origin), ("Vary", "Origin"),
                ("Access-Control-Allow-Methods", "GET, PUT, PATCH, POST"),
                ("Access-Control-Allow-Headers", "Content-Type"),
            ]
        }
        return answer
    }

    // MARK: Who may ask

    /// A page of any site can make a browser send requests here. Its own name would resolve to this machine only by a
    /// trick (DNS rebinding), so a name but "localhost" is refused; and browsers say of which page a request is.
    private func refusal(_ request: ControlRequest) -> ControlAnswer? {
        guard let host = request.host, Self.isAddress(host) else {
            return .error(
                421,
                "the Host header must be an address or localhost, as protection against DNS rebinding; it is "
                    + (request.host.map { quoted($0) } ?? "missing"))
        }
        guard let origin = request.origin, origin != "http://\(host)", !self.origins.contains(origin) else {
            return nil
        }
        return .error(
            403, "pages of \(quoted(origin)) may not use this: start the proxy with --control-origin \(origin)")
    }

    static func isAddress(_ host: String) -> Bool {
        var name = host[...]
        if name.hasPrefix("[") {
            guard let end = name.firstIndex(of: "]") else { return false }
            name = name[name.index(after: name.startIndex)..<end]
        } else if let colon = name.lastIndex(of: ":") {
            name = name[..<colon]
        }
        return name.lowercased() == "localhost" || (try? SocketAddress(ipAddress: String(name), port: 0)) != nil
    }

    // MARK: Routes

    private func routed(_ request: ControlRequest) async -> ControlAnswer {
        let here = Self.routes.filter { $0.path == request.path }
        guard !here.isEmpty else {
            let all = Self.routes.map { "\($0.method) \($0.path)" }.joined(separator: ", ")
            return .error(404, "there is no \(quoted(request.path)); there are \(all)")
        }
        guard let route = here.first(where: { $0.method == request.method }) else {
            let allowed = here.map(\.method).joined(separator: ", ")
            var answer = ControlAnswer.error(405, "\(request.path) takes \(allowed), not \(request.method)")
            answer.headers.append(("Allow", allowed))
            return answer
        }
        do {
            return try await route.answer(self, request)
        } catch let error as FaultsError {
            return .error(400, error.description)
        } catch {
            return .error(500, "\(error)")
        }
    }

    private static var routes: [Route] {
        [
            Route(method: "GET", path: "/") { _, _ in ControlPage.answer },
            Route(method: "GET", path: "/faults") { api, _ in .json(await api.proxy.faults) },
            Route(method: "PUT", path: "/faults") { try await $0.change($1, from: Faults()) },
            Route(method: "PATCH", path: "/faults") { try await $0.change($1, from: nil) },
            Route(method: "GET", path: "/fields") { _, _ in .json(FaultField.all) },
            Route(method: "GET", path: "/statistics") { api, _ in .json(await api.proxy.statistics) },
            Route(method: "GET", path: "/events") { .json($0.log.entries(after: $1.number("after"))) },
            Route(method: "POST", path: "/cut") {
                try await $0.perform($1, ["directions", "packets", "reach"], Self.cut)
            },
            Route(method: "POST", path: "/restore") { try await $0.perform($1, []) { _ in .restore } },
            Route(method: "POST", path: "/clear") { try await $0.perform($1, []) { _ in .clear } },
            Route(method: "POST", path: "/reset") { api, request in
                try await api.perform(request, ["which"]) { .reset(try $0.choice("which", or: .all)) }
            },
            Route(method: "POST", path: "/half-close") {
                try await $0.perform($1, ["directions", "which"], Self.halfClose)
            },
            Route(method: "POST", path: "/close-all") { try await $0.perform($1, []) { _ in .closeAll } },
        ]
    }

    private static func cut(_ words: ControlWords) throws -> FaultCommand {
        .cut(
            try words.directions(or: .both), try words.choice("packets", or: .lost),
            try words.choice("reach", or: .everything))
    }

    private static func halfClose(_ words: ControlWords) throws -> FaultCommand {
        .halfClose(try words.directions(or: nil), try words.choice("which", or: .all))
    }

    // MARK: Doing it

    private struct Done: Encodable {
        var connections: Int?
        var faults: Faults
    }

    private func perform(
        _ request: ControlRequest, _ names: [String], _ command: (ControlWords) throws -> FaultCommand
    ) async throws -> ControlAnswer {
        let command = try command(ControlWords(request.body, names: names))
        let connections = try await self.proxy.perform(command)
        return .json(Done(connections: connections, faults: await self.proxy.faults))
    }

    private func change(_ request: ControlRequest, from start: Faults?) async throws -> ControlAnswer {
        let body = request.body
        let faults = try await self.proxy.change { faults in
            let decoder = JSONDecoder()
            let change = Change(onto: start ?? faults)
            do {
                faults = try decoder.decode(Change.self, from: body, configuration: change).faults
            } catch let error as FaultsError {
                throw error
            } catch {
                throw FaultsError("the body must be a JSON object, such as {\"latency-ms\":300}")
            }
        }
        return .json(Done(connections: nil, faults: faults))
    }
}

/// Values that are put onto others.
private struct Change: DecodableWithConfiguration {
    var faults: Faults

    init(onto faults: Faults) {
        self.faults = faults
    }

    init(from decoder: any Decoder, configuration: Change) throws {
        self = configuration
        try self.faults.merge(from: decoder)
    }
}
