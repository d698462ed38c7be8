const baseUrl = process.env.BASE_URL ?? ''
const token = process.env.NARA_ADMIN_TOKEN ?? ''

type SupportTriageResult = {
  category: string
  nextStep: string
  summary: string
}

async function runSupportTriage(args: unknown): Promise<SupportTriageResult> {
  const response = await fetch(`${baseUrl}/api/agent/run`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${token}`,
    },
    body: JSON.stringify({
      agentName: 'support_triage',
      args,
    }),
  })

  if (!response.ok) {
    throw new Error(`Agent call failed with status ${response.status}`)
  }

  const payload = (await response.json()) as {
    success?: boolean
    output?: unknown
    error?: string
  }

  if (!payload.success || !payload.output) {
    throw new Error(payload.error ?? 'Agent call failed')
  }

  return payload.output as SupportTriageResult
}

runSupportTriage(JSON.parse(process.argv[2])).then(
  (result) => console.log(JSON.stringify(result)),
  (error) => console.log(JSON.stringify({ thrown: error.message })),
)
